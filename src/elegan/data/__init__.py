"""Bytes on disk become batches on the device: `sources` opens data, `codec` scales it, `batches` deals it out."""
