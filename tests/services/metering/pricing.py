"""Prices that are in force nowhere, for single holds."""

from promptly.prices import Price
from tests.services.metering.meter import Meter

# Ended before it began, so that it changes nothing for others.
ADD = """
INSERT INTO prices (model, input, cached, output, valid_until)
VALUES ('of one test', :input, :cached, :output, now()) RETURNING id
"""


def add_price(meter: Meter, input_: int, cached: int, output: int) -> Price:
    """Add a version of a price, and return it."""
    figures = {"input": input_, "cached": cached, "output": output}
    [row] = meter.books.rows(ADD, **figures)
    return Price(input_, cached, output, id=row["id"])
