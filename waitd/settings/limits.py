"""The settings below `limits`: what each namespace and each principal may have."""

from pydantic import BaseModel, ConfigDict, Field

from waitd.core.auth.quotas import DEFAULT_SHARES, PAGE_BYTES, Kept, Resource, Share

_GIB = 1024**3
_STREAMS = DEFAULT_SHARES[Resource.EVENT_STREAMS]
_POLLS = DEFAULT_SHARES[Resource.LONG_POLLS]
_READS = DEFAULT_SHARES[Resource.READS]
_BATCHES = DEFAULT_SHARES[Resource.BATCHES]


class LimitSettings(BaseModel):
    """The limits of one namespace and of each of its principals."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    event_streams_per_namespace: int = Field(
        int(_STREAMS.namespace), ge=1, description="The most open event streams of one namespace."
    )
    event_streams_per_principal: int = Field(
        int(_STREAMS.principal), ge=1, description="The most open event streams of one key or user."
    )
    long_polls_per_namespace: int = Field(
        int(_POLLS.namespace), ge=1, description="The most open GET requests with `?wait=` of one namespace."
    )
    long_polls_per_principal: int = Field(
        int(_POLLS.principal),
        ge=1,
        description="The most open GET requests with `?wait=` of one key or user.",
    )
    reads_per_namespace: int = Field(
        int(_READS.namespace), ge=1, description="The most lists that one namespace reads at the same time."
    )
    reads_per_principal: int = Field(
        int(_READS.principal), ge=1, description="The most lists that one key or user reads at the same time."
    )
    batches_per_namespace: int = Field(
        int(_BATCHES.namespace), ge=1, description="The most batches in progress of one namespace."
    )
    batches_per_principal: int = Field(
        int(_BATCHES.principal), ge=1, description="The most batches in progress of one key or user."
    )

    waits_held_per_namespace: int = Field(
        0,
        ge=0,
        description="The most waits of one namespace that are held; 0: three quarters of the capacity.",
    )
    waits_held_per_principal: int = Field(
        0,
        ge=0,
        description="The most waits of one key or user that are held; 0: three quarters of the capacity.",
    )
    waits_per_second_per_namespace: float = Field(
        5000.0,
        ge=0.01,
        description="The most waits a second that one namespace submits; ten seconds' worth at once after a pause.",
    )
    waits_per_second_per_principal: float = Field(
        5000.0,
        ge=0.01,
        description="The most waits a second that one key or user submits; ten seconds' worth at once after a pause.",
    )
    ended_waits_per_namespace: int = Field(
        2_000_000,
        ge=1,
        description="The most ended waits of one namespace that are kept; further submits get a 429.",
    )
    ended_waits_per_principal: int = Field(
        1_000_000,
        ge=1,
        description="The most ended waits of one key or user that are kept; further submits get a 429.",
    )
    ended_bytes_per_namespace: int = Field(
        8 * _GIB,
        ge=1,
        description="The most bytes of the ended waits of one namespace that are kept; further submits get a 429.",
    )
    ended_bytes_per_principal: int = Field(
        4 * _GIB,
        ge=1,
        description="The most bytes of the ended waits of one key or user that are kept; further submits get a 429.",
    )
    signals_per_namespace: int = Field(
        100_000, ge=1, description="The most signals of one namespace that are kept."
    )
    signals_per_principal: int = Field(
        50_000, ge=1, description="The most signals of one key or user that are kept."
    )
    signal_bytes_per_namespace: int = Field(
        _GIB // 4, ge=1, description="The most bytes of the signals of one namespace that are kept."
    )
    signal_bytes_per_principal: int = Field(
        _GIB // 8, ge=1, description="The most bytes of the signals of one key or user that are kept."
    )
    redeliveries_per_namespace: int = Field(
        20_000, ge=1, description="The most deliveries that are queued again, of one namespace."
    )
    redeliveries_per_principal: int = Field(
        10_000, ge=1, description="The most deliveries that are queued again, of one key or user."
    )
    page_bytes: int = Field(
        PAGE_BYTES, ge=65_536, description="A page of a list ends with the item that reaches this size."
    )

    def share(self, resource: Resource) -> Share:
        """The limits for one resource."""
        return Share(
            getattr(self, f"{resource}_per_namespace"),
            getattr(self, f"{resource}_per_principal"),
        )

    def kept_shares(self, capacity: int) -> dict[Kept, Share]:
        """The limits for what the database keeps, in a daemon that holds `capacity` waits."""
        shares = {
            kept: Share(getattr(self, f"{kept}_per_namespace"), getattr(self, f"{kept}_per_principal"))
            for kept in Kept
            if kept is not Kept.WAITS
        }
        default = -(-capacity * 3 // 4)
        held = Share(self.waits_held_per_namespace or default, self.waits_held_per_principal or default)
        return shares | {Kept.WAITS: held}

    def overridden(self, limits: "LimitSettings") -> "LimitSettings":
        """These limits, except for those that `limits` sets."""
        return self.model_copy(update=limits.model_dump(exclude_unset=True))
