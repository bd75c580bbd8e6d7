"""The settings below `cost`: prices, and the constants of the cost model."""

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from waitd.core.costs.model import DEFAULT_KIND, CostConstants, Prices
from waitd.settings.types import DAY, Names

MIB = 2.0**20


def _check_default(value: dict[str, float]) -> dict[str, float]:
    if DEFAULT_KIND not in value:
        raise ValueError(f"add a value for {DEFAULT_KIND}, which applies to all kinds that are not named")
    return value


def _check_labels(value: tuple[str, ...]) -> tuple[str, ...]:
    if reserved := {"", "kind", "day"} & set(value):
        raise ValueError(
            f"{min(reserved)!r} cannot be a label here; costs are always grouped by kind and day"
        )
    return value


ByKind = Annotated[dict[str, Annotated[float, Field(ge=0)]], AfterValidator(_check_default)]


class CostSettings(BaseModel):
    """The settings of the cost ledger. `config/waitd.toml` has the source of each constant."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    enabled: bool = Field(True, description="Whether the cost of waiting is measured and summed up.")
    labels: Annotated[Names, AfterValidator(_check_labels)] = Field(
        ("dag_id",), max_length=4, description="The labels by whose values costs are summed up."
    )
    values: int = Field(
        1000,
        ge=1,
        description="How many values of a label are counted per day and namespace; the rest are one value.",
    )
    retention: float = Field(
        400 * DAY, ge=DAY, description="How long the sums of a day are kept, in seconds."
    )
    currency: str = Field("USD", min_length=1, max_length=8, description="The currency of the prices.")
    slot_hour: float = Field(
        0.0, ge=0, description="The price of a worker slot for an hour, without its CPU and memory."
    )
    vcpu_hour: float = Field(0.04048, ge=0, description="The price of an hour of CPU time.")
    gib_hour: float = Field(0.004445, ge=0, description="The price of a GiB of memory for an hour.")
    task_cpu_seconds: float = Field(
        0.445, ge=0, description="CPU seconds of a trivial task from start to end."
    )
    defer_cpu_seconds: float = Field(
        0.114, ge=0, description="CPU seconds of a run that only defers or parks."
    )
    callback_cpu_seconds: float = Field(
        0.006, ge=0, description="CPU seconds with which Airflow processes a callback."
    )
    reschedule_cpu_seconds: ByKind = Field(
        {"default": 0.176, "http": 0.342, "s3_key": 0.514, "s3_keys_unchanged": 0.514},
        description="CPU seconds of one poke of a rescheduled sensor, by kind.",
    )
    run_seconds: float = Field(0.9, gt=0, description="How many seconds such a run holds its slot.")
    slot_bytes: float = Field(76e6, ge=0, description="Memory of a held slot, in bytes.")
    trigger_cpu_seconds: ByKind = Field(
        {"default": 0.0012, "s3_key": 0.0061, "s3_keys_unchanged": 0.0061},
        description="CPU seconds of one poke of a trigger, by kind.",
    )
    trigger_bytes: ByKind = Field(
        {"default": 55e3, "s3_key": 1.45 * MIB, "s3_keys_unchanged": 1.45 * MIB},
        description="Memory of a trigger in bytes, by kind.",
    )
    triggerer_bytes: float = Field(
        464 * MIB, ge=0, description="Memory of a Triggerer without triggers, in bytes."
    )
    triggerer_capacity: int = Field(1000, ge=1, description="How many triggers a Triggerer holds.")
    poke_cpu_seconds: ByKind = Field(
        {"default": 110e-6, "s3_key": 150e-6, "s3_keys_unchanged": 300e-6},
        description="CPU seconds of one poke of waitd, by kind; used by whatif and until they are measured.",
    )
    wait_bytes: float = Field(1200.0, ge=0, description="Memory of a wait in waitd in bytes, for whatif.")
    process_bytes: float = Field(
        160 * MIB, ge=0, description="Memory of the waitd process in bytes, for whatif."
    )

    @property
    def constants(self) -> CostConstants:
        """The constants of the cost model."""
        return CostConstants(**{name: getattr(self, name) for name in CostConstants.__dataclass_fields__})

    @property
    def prices(self) -> Prices:
        """The prices per hour."""
        return Prices(self.slot_hour, self.vcpu_hour, self.gib_hour, self.currency)
