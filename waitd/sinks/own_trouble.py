"""Distinguishes the daemon's own trouble from a failure of the destination."""

from dataclasses import replace
from typing import TypeVar

from waitd.core.local_trouble import local_trouble
from waitd.core.waits.delivery import DeliveryFailed, DeliveryPostponed, Receipt, local_receipt
from waitd.outgoing import possible_own_trouble

_Receipt = TypeVar("_Receipt", bound=Receipt)


def receipt_unless_own(error: Exception, receipt: _Receipt) -> _Receipt | DeliveryPostponed:
    """The receipt of an error; one that does not count if the error is the daemon's own trouble."""
    if trouble := local_trouble(error):
        return local_receipt(trouble)
    if isinstance(receipt, DeliveryFailed):
        return replace(receipt, suspect=possible_own_trouble(error))
    return receipt
