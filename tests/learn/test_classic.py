"""The classic games learn. Small, seeded, ≤ 10 s each; figures over seeds 0 to 2 stand beside the thresholds."""

import pytest

from elegan.data.source import Source
from elegan.data.sources import open_data
from tests.learn.test_learn import apart, drawn, fresh, learn, modes_covered, sliced


@pytest.fixture(scope="module")
def ring() -> Source:
    return open_data("ring")


def test_lsgan_finds_the_modes_of_the_ring(ring):
    """Measured: 8, 8, 8 modes with .26, .28, .31 of the points near one; untrained 0 and .00."""
    modes, share = modes_covered(drawn(learn("lsgan", ring, 500, 256, z_dim=8, width=16, lr=1e-3)))
    assert modes >= 6
    assert share > 0.15


def test_wgan_comes_nearer_to_the_ring(ring):
    """Measured: .11, .11, .14 against .61, .62, .62 untrained; two real sets are .04 apart."""
    options = dict(z_dim=8, width=16, clip=0.1, lr=1e-3)
    real = ring.arrays["real"][:1_000]
    before = sliced(drawn(fresh("wgan", ring, **options)), real)
    after = sliced(drawn(learn("wgan", ring, 250, 128, **options)), real)
    assert after < before / 3


def test_dragan_finds_the_modes_of_the_ring(ring):
    """Measured: 7, 7, 7 modes with .21, .37, .37 of the points near one."""
    modes, share = modes_covered(drawn(learn("dragan", ring, 500, 256, z_dim=8, width=16, gp=1.0, lr=2e-3)))
    assert modes >= 5
    assert share > 0.12


def test_sngan_finds_the_modes_of_the_ring(ring):
    """Measured: 8, 7, 6 modes with .20, .22, .22 of the points near one."""
    options = dict(z_dim=8, width=128, n_critic=2, lr=1e-3, decay_images=0)
    modes, share = modes_covered(drawn(learn("sngan", ring, 500, 256, **options)))
    assert modes >= 4
    assert share > 0.1


def test_ragan_draws_with_the_moments_of_digits():
    """Measured: 2.4, 2.5, 2.3 against 35.8, 32.1, 35.4 untrained; two real sets are .8 apart."""
    options = dict(z_dim=16, width=16, lr=2e-3)
    digits = open_data("digits")
    real = digits.arrays["real"][:1_000]
    before = apart(drawn(fresh("ragan", digits, **options)), real)
    after = apart(drawn(learn("ragan", digits, 300, 32, **options)), real)
    assert after < before / 8
