"""Reason codes: what can be wrong, in one word each, for scripts that read errors and quarantine lists.

A code is a text as well: ``problem.code == "not-ours"`` holds. ``exits`` are the exit codes of the errors
that carry it (0: a warning; 3: its source is quarantined). ``docs/reason_codes.md`` is made from here.
"""

from enum import StrEnum


class Code(StrEnum):
    """Why something is refused, or doubtful."""

    exits: tuple[int, ...]
    meaning: str

    def __new__(cls, text: str, exits: tuple[int, ...], meaning: str) -> "Code":
        """A member from its text, its exit codes and its meaning."""
        code = str.__new__(cls, text)
        code._value_, code.exits, code.meaning = text, exits, meaning
        return code

    AMBIGUOUS_ID = ("ambiguous-id", (2,), "a name or id may mean several sources")
    AMBIGUOUS_INPUT = ("ambiguous-input", (2,), "a name is both a dataset and a path")
    BAD_AFFINE = ("bad-affine", (3,), "the matrix from voxels to millimetres is singular or absurd")
    BAD_BOX = ("bad-box", (2, 3), "a box holds no pixel, or reaches out of its picture")
    BAD_CLASS = ("bad-class", (2,), "a line's class is none of the dataset's")
    BAD_DIMS = ("bad-dims", (3,), "a header declares dimensions that cannot be")
    BAD_EXTENSION = ("bad-extension", (3,), "a header extension of impossible length")
    BAD_HEADER = ("bad-header", (3,), "a header cannot be read")
    BAD_LINE = ("bad-line", (2,), "a line of a list has the wrong fields")
    BAD_NAME = ("bad-name", (2, 3), "a name holds control characters, or is not UTF-8")
    BAD_OFFSET = ("bad-offset", (3,), "the pixel data cannot begin where the header says")
    BAD_OPTION = ("bad-option", (2,), "the value of an option cannot be")
    BAD_SCALING = ("bad-scaling", (3,), "the slope or intercept of the stored values is absurd")
    BAD_SHA256 = ("bad-sha256", (2,), "a cell is not a SHA-256")
    BAD_SHAPE = ("bad-shape", (2,), "a network cannot take volumes of this shape")
    BAD_SPACING = ("bad-spacing", (3,), "the distances of voxels are absurd")
    BAD_VALUE = ("bad-value", (2,), "a value is of the wrong kind or out of its range")
    BEYOND_REPAIR = ("beyond-repair", (4,), "what is left of a store does not say what was in it")
    BUSY = ("busy", (5,), "another build holds the store")
    CANNOT_READ = ("cannot-read", (6,), "the system refuses to read a file")
    CANNOT_WRITE = ("cannot-write", (6,), "the system refuses to write: disk full, no permission, no reader")
    CHANGED_DURING_READ = ("changed-during-read", (3,), "a source changed while it was read")
    CHUNK_CHECKSUM = ("chunk-checksum", (4,), "the bytes of a volume have changed")
    CHUNK_SIZE = ("chunk-size", (4,), "the file of a volume is too short or too long")
    CHUNK_SWAPPED = ("chunk-swapped", (4,), "the file of a volume holds another volume")
    CLASS_MISSING = ("class-missing", (0, 2), "a split lacks samples of some class")
    CODEC_NOT_ALLOWED = ("codec-not-allowed", (3,), "a codec that is not on the list of those decoded")
    CONFIG_CHANGED = ("config-changed", (4,), "the settings of a run are not those that it was trained with")
    CONFIG_DAMAGED = ("config-damaged", (4,), "the settings of a run cannot be read")
    CONTRADICTION = ("contradiction", (2,), "two lines of a table say different things of one source")
    CRASH = ("crash", (3,), "the decoder ended its worker")
    DECODE_WARNINGS = ("decode-warnings", (3,), "the decoder complained of damage")
    DECODER_FAILED = ("decoder-failed", (3,), "the decoder failed")
    DIGEST_MISMATCH = ("digest-mismatch", (4,), "the table of a store is not the one that was published")
    DIVERGED = ("diverged", (1,), "a training's loss became NaN or infinite")
    DOUBTFUL = ("doubtful", (0,), "a source is read, but something about it is unusual")
    DUPLICATE_COLUMN = ("duplicate-column", (2,), "a column of a table stands twice")
    DUPLICATE_CONTENT = (
        "duplicate-content",
        (0, 3),
        "several sources, or several pictures, have the same bytes",
    )
    DUPLICATE_FILE = ("duplicate-file", (2,), "a list names a file twice")
    DUPLICATE_ID = ("duplicate-id", (0, 2), "a table names a source twice")
    DUPLICATE_IDS = ("duplicate-ids", (2,), "two samples have the same id")
    DUPLICATE_KEY = ("duplicate-key", (2,), "a key of the catalog is given twice")
    EMPTY_FILE = ("empty-file", (3,), "a source has no bytes")
    EMPTY_LIST = ("empty-list", (2,), "a list has no lines")
    EMPTY_PART = ("empty-part", (2,), "a split has no samples under this name")
    EMPTY_SPLIT = ("empty-split", (2, 4), "a split has no samples under this name")
    EMPTY_TABLE = ("empty-table", (2,), "a table has no lines")
    EMPTY_VOLUME = ("empty-volume", (3,), "a header declares no voxels")
    EXCLUDED = ("excluded", (0,), "samples are left out of a split to keep it free of leaks")
    FILE_EXISTS = ("file-exists", (2,), "a file is in the place of a result")
    FOLDS = ("folds", (2,), "this number of folds cannot be made")
    FOREIGN_PACKAGE = (
        "foreign-package",
        (2,),
        "another program's package `pipeline` or `model` hides that of viptt",
    )
    FOREIGN_STORE = ("foreign-store", (4,), "a Zarr group that viptt did not make")
    FORMAT_CHANGE = ("format-change", (3,), "the frames of a video change their size or format")
    FRACTIONS = ("fractions", (2,), "the fractions of a split are wrong")
    FRAME_COUNT_MISMATCH = (
        "frame-count-mismatch",
        (3,),
        "the number of decoded frames is not the declared one",
    )
    FROZEN_TEST_GONE = ("frozen-test-gone", (4,), "samples of a fixed test split are no longer in the store")
    GROUP_LEAK = ("group-leak", (0, 4), "samples of one group are in several splits")
    GZIP_CRC = ("gzip-crc", (3,), "compressed data is damaged")
    HASH_MISMATCH = ("hash-mismatch", (3,), "a source does not have the SHA-256 that the labels demand")
    HISTORY_DAMAGED = ("history-damaged", (4,), "the history of a run cannot be read")
    ID_TWICE = ("id-twice", (4,), "a sample is in two splits, or twice in one")
    IN_NO_PART = ("in-no-part", (4,), "a sample of the store is in no split")
    INCOMPLETE = ("incomplete", (4,), "a run has not finished")
    KEY = ("key", (2,), "a key of the catalog is no plain text")
    LENGTHS_DIFFER = ("lengths-differ", (2,), "ids, labels and groups are not equally many")
    LINE_ENDS = ("line-ends", (2,), "the lines of a table end in a way that cannot be read")
    LINK = ("link", (4,), "a link stands where a store has a file")
    LINK_LOOP = ("link-loop", (2,), "a path is a link to itself")
    LIST_OVERLAP = ("list-overlap", (2,), "a slice stands in the lists of two splits")
    LONE_CLASS = ("lone-class", (0,), "a class has one sample or group only")
    MEMORY = ("memory", (3, 6), "there is not enough memory")
    METADATA_DAMAGED = ("metadata-damaged", (4,), "the metadata of a store cannot be read")
    METADATA_MISSING = ("metadata-missing", (4,), "metadata of a store is not there")
    METRICS_DAMAGED = ("metrics-damaged", (4,), "the metrics of a run cannot be read")
    MISSING_CHUNK = ("missing-chunk", (4,), "the file of a volume is not there")
    MISSING_KEY = ("missing-key", (2,), "a key of the catalog is missing")
    MISSING_PACKAGE = ("missing-package", (2,), "a package is not installed")
    MISSPELT_LABEL = ("misspelt-label", (0,), "a label that is left out is like a class")
    MIXED_LABELS = ("mixed-labels", (2,), "samples that are judged as one have several labels")
    NEEDLESS_INIT = ("needless-init", (2,), "an option is given that has no meaning here")
    NEEDLESS_SETTING = ("needless-setting", (2,), "a setting is given that the network does not know")
    NEEDLESS_WEIGHTS = ("needless-weights", (2,), "an option is given that has no meaning here")
    NESTED_OUTPUT = ("nested-output", (2,), "what would be written lies inside something else")
    NO_BACKBONE = ("no-backbone", (2,), "a network has no backbone")
    NO_BOX = ("no-box", (2,), "a list needs a box for each picture")
    NO_CATALOG = ("no-catalog", (2,), "there is no catalog")
    NO_COLUMN = ("no-column", (2,), "a table lacks a column")
    NO_COLUMNS = ("no-columns", (2,), "a table lacks columns")
    NO_COMMON_SAMPLES = ("no-common-samples", (2,), "two stores have no sample of the same source")
    NO_CONFIG = ("no-config", (2,), "there is no such file of settings, and no preset of this name")
    NO_FC1 = ("no-fc1", (2,), "a backbone lacks the layer that is asked for")
    NO_FEATURES = ("no-features", (4,), "there are no features of a store")
    NO_FILE = ("no-file", (2, 3), "a label has no file")
    NO_FOLDER = ("no-folder", (2,), "there is no such folder")
    NO_FRAMES = ("no-frames", (3,), "not one frame of a video can be decoded")
    NO_HEAD = ("no-head", (2,), "a network has no last layer of classes to look at")
    NO_INIT = ("no-init", (2,), "the weights to start from are not given")
    NO_LABEL = ("no-label", (2, 3), "a file has no label")
    NO_MAPS = ("no-maps", (2,), "features without maps where maps are asked for")
    NO_MODEL = ("no-model", (2,), "a function of yours gives no Keras model")
    NO_MODULE = ("no-module", (2,), "a module of yours cannot be imported")
    NO_PATIENT = ("no-patient", (0,), "no patient is known of some stacks")
    NO_PICTURES = ("no-pictures", (2,), "windows or pictures are asked for where a store holds stacks")
    NO_RUNS = ("no-runs", (2,), "no run is named")
    NO_SAMPLES = ("no-samples", (2,), "there is no source with a label")
    NO_SCHEDULER = ("no-scheduler", (2,), "no Dask scheduler answers at this address")
    NO_SCIKIT_LEARN = ("no-scikit-learn", (2,), "a method needs scikit-learn")
    NO_SOURCES = ("no-sources", (2,), "a folder holds no sources")
    NO_SUCH_FOLD = ("no-such-fold", (2,), "there is no fold of this number")
    NO_TABLE = ("no-table", (2,), "there is no label table")
    NO_VOLUME = ("no-volume", (3,), "a source gave no volume")
    NO_WEIGHTS = ("no-weights", (2, 6), "there are no weights, or they cannot be fetched")
    NO_WINDOWS = ("no-windows", (2, 3), "not one window or selected picture is there")
    NO_WORKERS = ("no-workers", (6,), "no worker can be started")
    NON_FINITE = ("non-finite", (3, 4), "values are NaN or infinite")
    NOT_3D = ("not-3d", (3,), "a scan has more or fewer than three axes")
    NOT_A_CATALOG = ("not-a-catalog", (2,), "the document is no catalog")
    NOT_A_CONFIG = ("not-a-config", (2,), "the document is no file of settings")
    NOT_A_DATASET = ("not-a-dataset", (2,), "a name is no dataset of the catalog")
    NOT_A_LOCAL_FILE = ("not-a-local-file", (2,), "an address stands where a path should")
    NOT_A_PICTURE = ("not-a-picture", (3,), "a picture cannot be decoded")
    NOT_A_REGULAR_FILE = ("not-a-regular-file", (3,), "a source is a folder, a pipe or a device")
    NOT_A_RUN = ("not-a-run", (2,), "a folder is no run")
    NOT_BUILT = ("not-built", (4,), "a store has not been built")
    NOT_COMPARABLE = ("not-comparable", (3,), "the frames of a stack cannot be compared by SSIM")
    NOT_CSV = ("not-csv", (2,), "a table is not CSV")
    NOT_EMPTY = ("not-empty", (2,), "a folder is not empty")
    NOT_EXAMS = ("not-exams", (2,), "a file does not say which pictures belong to which exam")
    NOT_EXPORTABLE = ("not-exportable", (2,), "a run cannot be exported in this form")
    NOT_FEATURES = ("not-features", (2,), "a store of volumes stands where features should")
    NOT_FROM_FEATURES = ("not-from-features", (2,), "a training does not fit the features")
    NOT_JSON = ("not-json", (2,), "a file is not JSON")
    NOT_NIFTI = ("not-nifti", (3,), "a file's content is not NIfTI")
    NOT_OURS = ("not-ours", (2, 4), "something that viptt did not make is in the way")
    NOT_UTF_8 = ("not-utf-8", (2,), "a text is not UTF-8")
    NOT_VIDEO = ("not-video", (3,), "a file's content is no video of a known container")
    NOT_YAML = ("not-yaml", (2,), "the catalog is not YAML")
    NUL_BYTE = ("nul-byte", (2,), "a table holds a NUL byte")
    ONE_CLASS = ("one-class", (2,), "all samples are of one class")
    OTHER_BYTES = (
        "other-bytes",
        (4,),
        "a volume converted again is not byte for byte the one that was stored",
    )
    OTHER_CLASSES = ("other-classes", (2,), "classes differ")
    OTHER_DATA = ("other-data", (4,), "a run was trained on other data")
    OTHER_NETWORK = ("other-network", (2, 4), "weights belong to another network")
    OTHER_RECIPE = ("other-recipe", (2,), "a store has another recipe than a run")
    OTHER_SETTINGS = ("other-settings", (2,), "a run has other settings")
    OTHER_SHAPE = ("other-shape", (2,), "a store has another shape than a run")
    OTHER_STORE = ("other-store", (4,), "a split or run belongs to another store")
    OUT_EXISTS = ("out-exists", (2,), "the output is there already")
    OUT_OF_RANGE = ("out-of-range", (3,), "values that no scanner gives")
    OUTSIDE_STORAGE = ("outside-storage", (4,), "weights lie outside their file")
    OWN_MODEL_FAILED = ("own-model-failed", (2,), "a function of yours raises an error")
    PATH_OUTSIDE_ROOT = ("path-outside-root", (2,), "a table names a path outside the folder of sources")
    RAGGED_TABLE = ("ragged-table", (2,), "the lines of a table have unequal numbers of cells")
    REBUILT = ("rebuilt", (4,), "a store was built again while it was read")
    RUN_EXISTS = ("run-exists", (2,), "there is a run in this folder")
    SAME_FILE = ("same-file", (2,), "two results would be written to one file")
    SAME_FRAME = ("same-frame", (2,), "two pictures have the same place in a stack")
    SHAPE_TOO_SMALL = ("shape-too-small", (2,), "volumes are too small for a network")
    SHARD_INDEX = ("shard-index", (4,), "the index at the end of a shard is not the one that was written")
    SHARED_OUTPUT = ("shared-output", (2,), "what would be written is also something else")
    SIZE_MISMATCH = ("size-mismatch", (3,), "a file is shorter or longer than its header says")
    SLOW_REGEX = ("slow-regex", (2,), "a regular expression takes too long")
    SOURCE_CHANGED = ("source-changed", (4,), "a source is not the one that a store was made from")
    SOURCE_LOST = ("source-lost", (4,), "a source of a store is gone or cannot be read")
    SOURCES_IN_STORE = ("sources-in-store", (2,), "the sources lie inside a store")
    SPLIT_COUNTS = ("split-counts", (4,), "the counts of a split file do not fit its ids")
    SPLIT_DAMAGED = ("split-damaged", (4,), "a split file is not sound JSON")
    SPLIT_EDITED = ("split-edited", (4,), "a split file is not what was written")
    SPLIT_EMPTY = ("split-empty", (4,), "no split holds a sample")
    SPLIT_EXISTS = ("split-exists", (2,), "a split file is there, and nobody said that it may be replaced")
    SPLIT_FOLDS = ("split-folds", (2,), "a file of folds does not fit")
    SPLIT_FOREIGN = ("split-foreign", (4,), "a split file is in no known format")
    SPLIT_FORMAT = ("split-format", (2, 4), "a split file has another format")
    SPLIT_FRACTIONS = ("split-fractions", (4,), "the fractions of a split file do not add up to 1")
    SPLIT_KEYS = ("split-keys", (4,), "keys of a split file are missing or unknown")
    SPLIT_METHOD = ("split-method", (2,), "there is no such method to split")
    SPLIT_MISSING = ("split-missing", (4,), "there is no split file")
    SPLIT_PARTS = ("split-parts", (2, 4), "the splits of a file do not fit")
    STALE_FEATURES = ("stale-features", (4,), "features were made of another store or by other weights")
    STALE_STORE = ("stale-store", (4,), "a store is not what the catalog asks for now")
    STATE_DAMAGED = ("state-damaged", (4,), "a checkpoint cannot be read")
    STORE_FORMAT = ("store-format", (4,), "a store of a format that this version does not read")
    STORE_IN_SOURCES = ("store-in-sources", (2,), "a store lies inside a folder of sources")
    TAG = ("tag", (2,), "the catalog holds a YAML tag")
    TIMEOUT = ("timeout", (3,), "a source takes too long")
    TOO_DEEP = ("too-deep", (2,), "the catalog is nested too deeply")
    TOO_FEW_SAMPLES = ("too-few-samples", (2,), "there are too few samples to split")
    TOO_LARGE = ("too-large", (2, 3), "a file or array is larger than what is read")
    TOO_MANY_BAD = ("too-many-bad", (3,), "more sources are bad than allowed")
    TOO_SHORT = ("too-short", (3,), "a clip has fewer frames than the recipe takes")
    TRUNCATED = ("truncated", (3,), "a file ends early")
    TWO_PATIENTS = ("two-patients", (2,), "an exam belongs to two patients")
    TYPES = ("types", (2,), "ids, labels or groups are of the wrong type")
    UNDEFINED_VARIABLE = (
        "undefined-variable",
        (2,),
        "a path names a variable without value, or an unknown user",
    )
    UNEXPECTED = ("unexpected", (1,), "a failure that nobody thought of")
    UNKNOWN_DATASET = ("unknown-dataset", (2,), "the catalog has no dataset of this name")
    UNKNOWN_ID = ("unknown-id", (4,), "a split names a sample that the store lacks")
    UNKNOWN_INPUT = ("unknown-input", (2,), "there is no such file, folder or dataset")
    UNKNOWN_KEY = ("unknown-key", (2,), "the catalog has no such key")
    UNKNOWN_LABEL = ("unknown-label", (2,), "a label is none of the classes")
    UNKNOWN_NAME = ("unknown-name", (2,), "an option has no such choice")
    UNKNOWN_RECIPE = ("unknown-recipe", (2,), "this version cannot follow a recipe")
    UNKNOWN_SCAN = ("unknown-scan", (0,), "names of slices have none of the known forms")
    UNKNOWN_SPLIT = ("unknown-split", (2, 4), "a split file has no split of this name")
    UNKNOWN_TYPE = ("unknown-type", (2,), "there is no such type of source")
    UNREADABLE = ("unreadable", (3, 4, 6), "the system refuses to read a file")
    UNSAFE_ID = ("unsafe-id", (4,), "an id could lead out of a folder")
    UNSUPPORTED_DTYPE = ("unsupported-dtype", (3,), "voxels of a type that is no gray value")
    USAGE = ("usage", (2,), "a command line that is not understood")
    WEIGHTS_CHANGED = ("weights-changed", (4,), "weights are not those that a run wrote")
    WEIGHTS_UNREADABLE = ("weights-unreadable", (4,), "weights cannot be read")


def reason_codes_page() -> str:
    """The page ``docs/reason_codes.md``, in Markdown."""
    rows = (f"| `{code}` | {', '.join(map(str, code.exits))} | {code.meaning} |" for code in Code)
    head = (
        "# Reason codes\n",
        "Every error is one line, `WHERE: reason-code: plain reason → what to do`. The exit code is that of",
        "the error that carries the reason; 0 is a warning, 3 means that the source is quarantined.",
        "This page is written by `python -m pipeline.codes > docs/reason_codes.md`.\n",
        "| code | exit code | meaning |",
        "|---|---|---|",
    )
    return "\n".join((*head, *rows)) + "\n"


if __name__ == "__main__":
    print(reason_codes_page(), end="")
