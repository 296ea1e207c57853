"""The codecs that clips may use, and whether FFmpeg has their decoders."""

import av
from av.codec.codec import UnknownCodecError

from pipeline.doctor.findings import Entry, Missing, Topic
from pipeline.readers.video import CODECS


def examine_codecs() -> Topic:
    """The decoders of FFmpeg, of those that clips may use."""
    lacking = [name for name in CODECS if not _can_decode(name)]
    there = [name for name in CODECS if name not in lacking]
    entries = (
        Entry("ffmpeg", av.ffmpeg_version_info, f"{av.ffmpeg_version_info} in PyAV {av.__version__}"),
        Entry("decoders", there, ", ".join(there)),
    )
    remedy = "`pip install --force-reinstall av`: its own wheels have all of them"
    missing = [Missing(f"no decoder for {', '.join(lacking)}", remedy)] if lacking else []
    return Topic("codecs", entries, tuple(missing))


def _can_decode(name: str) -> bool:
    try:
        return bool(av.Codec(name, "r").is_decoder)
    except UnknownCodecError:
        return False
