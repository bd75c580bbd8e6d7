"""The settings below `limits`: what each namespace and each principal may hold at the same time."""

from pydantic import BaseModel, ConfigDict, Field

from waitd.core.auth.quotas import DEFAULT_SHARES, Resource, Share

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

    def share(self, resource: Resource) -> Share:
        """The limits for one resource."""
        return Share(
            getattr(self, f"{resource}_per_namespace"),
            getattr(self, f"{resource}_per_principal"),
        )

    def overridden(self, limits: "LimitSettings") -> "LimitSettings":
        """These limits, except for those that `limits` sets."""
        return self.model_copy(update=limits.model_dump(exclude_unset=True))
