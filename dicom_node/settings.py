"""service.toml to one frozen model. Every mistake in the file is reported at once, with its path and a remedy."""

from __future__ import annotations

import difflib
import hashlib
import importlib
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    SerializeAsAny,
    ValidationError,
    create_model,
    field_validator,
    model_validator,
)
from pydicom.datadict import keyword_dict

import dicom_node.reasons  # noqa: F401  (enters the service's rows)
from dicom_node.default_routes import DEFAULT_ROUTES
from pipelines.catalogue import PipelineSettings, catalogue
from pipelines.reasons import Reason, TriageError

SEARCH_PATH = (Path("service.toml"), Path("/etc/triage-node/service.toml"))
Priority = Literal["stat", "urgent", "routine"]
PRIORITIES: tuple[Priority, ...] = get_args(Priority)


class ConfigurationError(TriageError):
    """service.toml cannot be used; `problems` has a line for each mistake."""

    def __init__(self, file: Path, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        super().__init__(Reason("configuration.invalid", {"file": str(file), "detail": "; ".join(self.problems)}))


def _ae_title(value: str) -> str:
    """PS3.5, 6.2: at most 16 characters of the default repertoire, no backslash or control character, not all blank."""
    if not value.strip() or len(value) > 16 or not re.fullmatch(r"[ -\[\]-~]+", value):
        raise ValueError("an AE title has 1 to 16 printable ASCII characters and no backslash")
    return value.strip()


def _database_url(value: str) -> str:
    if value and not re.match(r"\w+(\+\w+)?://", value):
        raise ValueError("it is no SQLAlchemy URL, such as postgresql+psycopg://user@host/triage")
    return value


AeTitle = Annotated[str, AfterValidator(_ae_title)]
Port = Annotated[int, Field(ge=1, le=65535)]
Seconds = Annotated[float, Field(gt=0)]


class Table(BaseModel):
    """Base of every table of service.toml: frozen, and a key it does not know is a mistake."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Node(Table):
    """Who this node is and where it keeps what it holds."""

    ae_title: AeTitle = "TRIAGE"
    host: str = "0.0.0.0"
    port: Port = 11112
    spool: Path = Path("spool")
    database: Annotated[str, AfterValidator(_database_url)] = ""
    """SQLAlchemy URL; empty means SQLite in the spool."""
    language: Literal["en"] = "en"
    institution_name: str = ""

    @property
    def database_url(self) -> str:
        return self.database or f"sqlite:///{self.spool.absolute() / 'ledger.sqlite3'}"


class Receive(Table):
    """How images are taken in."""

    processes: int = Field(default=1, ge=1, le=64)
    maximum_associations: int = Field(default=64, ge=1)
    maximum_pdu_bytes: int = Field(default=131072, ge=4096, le=2**31)
    network_timeout_s: Seconds = 30.0
    """For a message that has begun."""
    idle_timeout_s: Seconds = 600.0
    """Between two messages: a scanner may hold its association open while it reconstructs."""
    unknown_peers: Literal["accept", "refuse"] = "accept"
    """Whether a calling AE title without a [peers.NAME] table may send."""
    check_called_ae_title: bool = True
    free_disk_mb: int = Field(default=500, ge=0)
    """Images are refused with a reason, rather than lost, when less than this is free."""


class Peer(Table):
    """A sender that is known by its AE title."""

    ae_title: AeTitle
    addresses: tuple[IPv4Network | IPv6Network, ...] = ()
    """Where it may call from; empty means from anywhere."""
    may: tuple[Literal["store", "echo"], ...] = ("store", "echo")


class Assemble(Table):
    """When a series counts as whole, and when a study that is read as one does."""

    quiet_time_s: Seconds = 20.0
    """After the last instance, when the sender keeps its association open or the geometry has gaps."""
    hard_limit_s: Seconds = 600.0
    """After the first instance of a series, and after the first whole series of a study, whatever happens."""
    study_quiet_s: Seconds = 120.0
    """After the last instance of a mammography study that lacks a standard view, which may yet come: views are sent as
    they are taken. A study with R CC, L CC, R MLO and L MLO is read at once."""


class Work(Table):
    """The engine that reads."""

    workers: int = Field(default=1, ge=1, le=64)
    threads: int = Field(default=0, ge=0)
    """For each worker's computations; 0 shares the cores among the workers."""
    maximum_attempts: int = Field(default=10, ge=1)
    """How often one reading may be begun. Restarts of the node count, so this is more than a bad series needs."""
    lease_s: Seconds = 30.0
    retry_s: Seconds = 2.0


class PriorArchive(Table):
    """A PACS that is asked for earlier studies of a patient, where the ledger has none, by pipelines that compare."""

    ae_title: AeTitle
    host: str
    port: Port
    timeout_s: Seconds = 10.0
    """For each answer."""
    time_limit_s: Seconds = 60.0
    """For all that is asked of it for one series, which is read without a comparison after that."""
    maximum_mb: int = Field(default=2000, ge=1)
    """More than this is not fetched for one series."""
    move_ae_title: AeTitle = "TRIAGE_PRIORS"
    """What the PACS knows `move_port` of this host as."""
    move_port: Port | None = None
    """Where fetched images are sent to by C-MOVE, for a PACS that has no C-GET; unset, they are fetched by C-GET."""

    @property
    def maximum_bytes(self) -> int:
        return self.maximum_mb * 1_000_000


def _suggestion(word: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    return f"; did you mean {near[0]}?" if near else ""


def _as_list(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


Patterns = Annotated[tuple[str, ...], BeforeValidator(_as_list), Field(min_length=1)]


class Matcher(Table):
    """One condition on one attribute; exactly one key is set, but `not_glob` may stand beside `glob`.

    An attribute with several values holds when one of them does, except under `absent` and `not_glob`, which hold when
    none does. Patterns of `glob` and `not_glob` (one or a list) heed neither case nor accents.
    """

    equal: str | float | None = None
    one_of: tuple[str | float, ...] | None = None
    glob: Patterns | None = None
    not_glob: Patterns | None = None
    range: tuple[float, float] | None = None
    present: Literal[True] | None = None
    absent: Literal[True] | None = None

    @model_validator(mode="before")
    @classmethod
    def _bare_value_means_equal(cls, value: Any) -> Any:
        return value if isinstance(value, Mapping | Matcher) else {"equal": value}

    @model_validator(mode="after")
    def _exactly_one(self) -> Matcher:
        if len(self.model_fields_set) != 1 and self.model_fields_set != {"glob", "not_glob"}:
            raise ValueError(f"set exactly one of {', '.join(type(self).model_fields)}")
        if self.range and self.range[0] > self.range[1]:
            raise ValueError("a range goes from the lower to the higher value")
        return self


_KEYWORDS = frozenset(keyword_dict)


def _keyword(word: str) -> str:
    if word not in _KEYWORDS:
        raise ValueError(f"{word} is no DICOM keyword{_suggestion(word, _KEYWORDS)}")
    return word


class Route(Table):
    """Which series go to which pipeline."""

    pipeline: str
    priority: Priority = "routine"
    when: Mapping[Annotated[str, AfterValidator(_keyword)], Matcher]
    """By DICOM keyword; all must hold."""


def _probe_or_kinds(value: Any) -> Any:
    if value != "probe" and not isinstance(value, list | tuple):
        raise ValueError('it is "probe" or a list of kinds, such as ["measurement_report", "summary_image"]')
    return value


class Destination(Table):
    """Where results are sent to. Each kind, a file of `deliver/destinations`, adds the keys that it needs."""

    kind: str = "dimse"
    confirm: Literal["find", "none"] = "find"
    """Whether each object is looked for, with C-FIND at a PACS, after it was stored."""
    accepts: Annotated[Literal["probe"] | tuple[str, ...], BeforeValidator(_probe_or_kinds)] = "probe"
    """Kinds of object that are sent to it. With "probe" it is offered all of them, and what it does not accept when the
    association is negotiated is not sent; a list names kinds. Of what is not sent, `deliveries` tells why."""
    timeout_s: Seconds = 30.0
    retry_s: Seconds = 5.0
    """Wait before the second attempt; doubles with each further one, up to `retry_limit_s`."""
    retry_limit_s: Seconds = 600.0
    give_up_after_h: float = Field(default=72.0, gt=0)


def _destination_kinds() -> Mapping[str, Any]:
    # Imported by name, when a table is read: the kinds stand in a room above this one, and build on it.
    kinds: Mapping[str, Any] = importlib.import_module("dicom_node.deliver.catalogue").catalogue()
    return kinds


def _of_its_kind(table: Any) -> Any:
    if not isinstance(table, Mapping):
        return table
    kinds, kind = _destination_kinds(), table.get("kind", "dimse")
    if kind not in kinds:
        raise ValueError(f"{kind} is no kind of destination{_suggestion(str(kind), kinds)}")
    return kinds[kind].settings.model_validate(table)


class AlertRule(Table):
    """Who is told of what."""

    channels: tuple[SecretStr, ...] = Field(min_length=1)
    """Apprise URLs (`json://host:port/path` is a webhook, `mailto://user:password@host` an e-mail)."""
    pipelines: tuple[str, ...] = ()
    """Empty means every pipeline."""
    statuses: tuple[Literal["finding", "unsure", "not_read"], ...] = ("finding",)
    minimum_score: float = Field(default=0.0, ge=0, le=1)
    lung_rads_from: Literal["1", "2", "0", "3", "4A", "4B", "4X"] = "4B"
    """Of lung nodules only results with this suggested category, or one further on in the list, are told."""
    patient_data: bool = False
    """Whether the message may carry name, id and accession number. Off: a short token stands for the study."""
    retry_s: Seconds = 5.0
    retry_limit_s: Seconds = 300.0
    give_up_after_h: float = Field(default=12.0, gt=0)


class Settings(Table):
    """The whole of service.toml. Every key has a default, so that an empty file is a working configuration."""

    node: Node = Node()
    receive: Receive = Receive()
    peers: Mapping[str, Peer] = {}
    assemble: Assemble = Assemble()
    routes: Mapping[str, Route] = Field(
        default_factory=lambda: {name: Route.model_validate(route) for name, route in DEFAULT_ROUTES.items()}
    )
    work: Work = Work()
    pipelines: Mapping[str, SerializeAsAny[PipelineSettings]] = {}
    priors: Mapping[str, PriorArchive] = {}
    destinations: Mapping[str, Annotated[SerializeAsAny[Destination], BeforeValidator(_of_its_kind)]] = {}
    alerts: Mapping[str, AlertRule] = {}

    @field_validator("pipelines", mode="before")
    @classmethod
    def _own_settings_of_each(cls, tables: Any) -> Any:
        each: Any = {name: (one.settings | None, None) for name, one in catalogue().items()}
        held = create_model("Pipelines", __base__=Table, **each).model_validate(tables)
        return {name: getattr(held, name) for name in held.model_fields_set}

    def pipeline(self, name: str) -> PipelineSettings:
        """The settings of an installed pipeline, its own defaults where service.toml says nothing."""
        return self.pipelines.get(name) or catalogue()[name].settings()

    def hash_for(self, pipeline: str) -> str:
        """Names the settings that a result of `pipeline` depends on: SHA-256 of their canonical JSON, 16 hex digits."""
        settings = self.pipeline(pipeline).model_dump_json(exclude={"device", "time_limit_s"})
        return hashlib.sha256(f"{pipeline}{settings}".encode()).hexdigest()[:16]

    def hash(self) -> str:
        """Names the whole configuration, secrets left out: SHA-256 of its canonical JSON, 16 hex digits."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:16]


def find_file(given: Path | None) -> Path | None:
    """The configuration file to use: the one given, else the first of the search path that exists, else none."""
    return given or next((path for path in SEARCH_PATH if path.is_file()), None)


def load(file: Path | None) -> Settings:
    """Read service.toml; None means all defaults. Raises `ConfigurationError` with every mistake at once."""
    if file is None:
        return Settings()
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(file, [f"it cannot be read ({error})"]) from error
    try:
        return parse(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(file, [f"it is no TOML ({error})"]) from error
    except ValidationError as error:
        raise ConfigurationError(file, [_describe(detail) for detail in error.errors()]) from error


def parse(text: str) -> Settings:
    """The settings in a TOML text. Raises `tomllib.TOMLDecodeError` or `pydantic.ValidationError`."""
    return Settings.model_validate(tomllib.loads(text))


def _describe(detail: Any) -> str:
    path = ".".join(str(part) for part in detail["loc"] if part != "[key]")
    if detail["type"] == "extra_forbidden":
        key = str(detail["loc"][-1])
        return f"{path}: there is no such key{_suggestion(key, _known_keys(detail['loc'][:-1]))}"
    if detail["type"] == "missing":
        return f"{path}: this key must be given"
    return f"{path}: {detail['msg'].removeprefix('Value error, ')} (found {_shown(detail)})"


def _shown(detail: Any) -> str:
    # The URLs of channels and of the database hold passwords.
    may_be_secret = detail["loc"][0] == "alerts" or detail["loc"][:2] == ("node", "database")
    is_shown = not may_be_secret or isinstance(detail["input"], int | float)
    return repr(detail["input"])[:80] if is_shown else "a value that is not shown"


def _known_keys(path: tuple[Any, ...]) -> Iterable[str]:
    if path[:1] == ("pipelines",):
        return catalogue()[path[1]].settings.model_fields if len(path) > 1 else catalogue()
    model: Any = Settings
    for part in path:
        field = model.model_fields.get(part) if _is_model(model) else None
        annotation = field.annotation if field else None
        if annotation is None:
            continue  # the name of one table among several of its kind
        model = next(_models_in(annotation), model)
    kinds = (kind.settings for kind in _destination_kinds().values()) if model is Destination else (model,)
    return {key for kind in kinds for key in kind.model_fields}


def _models_in(annotation: Any) -> Iterator[Any]:
    if _is_model(annotation):
        yield annotation
    for part in get_args(annotation):
        yield from _models_in(part)


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)
