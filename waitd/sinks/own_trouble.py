"""Distinguishes the daemon's own trouble from a failure of the destination."""

from dataclasses import replace

from waitd.core.local_trouble import local_trouble
from waitd.core.waits.delivery import DeliveryFailed, Receipt, local_receipt
from waitd.outgoing import possible_own_trouble


def receipt_unless_own(error: Exception, receipt: Receipt) -> Receipt:
    """The receipt of an error; one that does not count if the error is the daemon's own trouble."""
    if trouble := local_trouble(error):
        return local_receipt(trouble)
    if isinstance(receipt, DeliveryFailed):
        return replace(receipt, suspect=possible_own_trouble(error))
    return receipt
