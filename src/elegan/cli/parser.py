"""Command lines from records of options. The one module that knows which library parses and prints them."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, get_args, get_origin

import cyclopts
from rich.console import Console

from elegan.errors import OptionError, nearest
from elegan.options import Option, parse

NARROWEST = 20  # columns; the library has no end in fewer than three


@dataclass(frozen=True)
class Verb:
    """A command: its arguments in order, the last of which may be a tuple and takes all there are; flags by group."""

    name: str
    help: str
    arguments: Sequence[Option] = ()
    groups: Mapping[str, Sequence[Option]] = field(default_factory=dict)

    def parse(self, tokens: Sequence[str]) -> dict[str, Any] | None:
        """The values typed, by name; None if help was asked for and has been printed.

        Raises `OptionError` in one line for anything that does not parse.
        """
        flags = [flag for group in self.groups.values() for flag in group]
        known = {option.name: option for option in [*self.arguments, *flags]}
        app = cyclopts.App(name=f"elegan {self.name}", help=self.help, version_flags=[], help_format="plaintext")
        app["--help"].show = False
        app.default(self._signature())
        try:
            _, bound, _ = app.parse_args(tokens, exit_on_error=False, print_error=False)
        except cyclopts.CycloptsError as error:
            raise OptionError(_one_line(error, self.name, [flag.flag for flag in flags])) from None
        if bound.signature.parameters.keys() != known.keys():  # cyclopts bound its own help function instead
            screen = Console()
            screen.width = max(screen.width, NARROWEST)
            app(tokens, result_action="return_value", console=screen)
            return None
        return {
            name: said if isinstance(said, (bool, tuple)) else parse(said, known[name].type, self._label(known[name]))
            for name, said in bound.arguments.items()
        }

    def _label(self, option: Option) -> str:
        return option.name.upper() if option in self.arguments else option.flag

    def _signature(self) -> Callable[..., None]:
        """A function whose signature shows the library each option: switches as bool, all others as text."""
        place = cyclopts.Group.create_default_arguments()
        kinds = inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.VAR_POSITIONAL
        parameters = [_parameter(o, kinds[get_origin(o.type) is tuple], place) for o in self.arguments]
        for number, (title, options) in enumerate(self.groups.items(), 1):
            group = cyclopts.Group(title, sort_key=number)
            parameters += [_parameter(option, inspect.Parameter.KEYWORD_ONLY, group) for option in options]

        def command(*args: Any, **kwargs: Any) -> None: ...

        vars(command).update(__signature__=inspect.Signature(parameters))
        command.__annotations__ = {p.name: p.annotation for p in parameters}
        return command


REQUIRED = object()


def _parameter(option: Option, kind: Any, group: cyclopts.Group) -> inspect.Parameter:
    positional = kind is not inspect.Parameter.KEYWORD_ONLY
    switch = option.type is bool and not positional
    shown = "" if option.default in (None, REQUIRED, "") else _text(option.default)
    metavar, about = option.type_name.upper(), option.help
    if get_origin(option.type) is Literal:
        metavar, about = "NAME", f"{option.help}: {', '.join(map(str, get_args(option.type)))}"
    settings = cyclopts.Parameter(
        name=option.name.upper() if positional else option.flag,
        help=about,
        metavar=None if switch or positional else metavar,
        show_default=(lambda _: shown) if shown else False,
        group=group,
    )
    none_typed = False if switch else ""  # of the type shown: once pydantic is loaded, the library checks this too
    required = option.default is REQUIRED or kind is inspect.Parameter.VAR_POSITIONAL
    default = inspect.Parameter.empty if required else none_typed
    shape = Annotated[bool if switch else str, settings]
    return inspect.Parameter(option.name, kind, default=default, annotation=shape)


def _text(value: Any) -> str:
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return {True: "yes", False: "no"}.get(value, str(value)) if isinstance(value, bool) else str(value)


def _one_line(error: cyclopts.CycloptsError, verb: str, flags: Sequence[str]) -> str:
    if isinstance(error, cyclopts.UnknownOptionError):
        word = error.token.keyword or str(error.token.value)
        return f"{verb} has no option {word}.{nearest(word, flags)}"
    if isinstance(error, cyclopts.UnusedCliTokensError):
        words = " ".join(map(repr, error.unused_tokens or []))
        return f"{verb}: {words} is one argument too many; see 'elegan {verb} --help'."
    return " ".join(str(error).split())
