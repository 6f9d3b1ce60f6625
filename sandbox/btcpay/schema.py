"""JSON Schema of a BTCPay Server's answers and events, as far as they are used here.

We wrote it from the public documentation of the Greenfield API (``swagger/v1`` of btcpayserver
2.x). Missing and additional fields are errors, so that mistakes in the stand-in are found; a real
server of another version may well show more.
"""

import re
from typing import Any

Schema = dict[str, Any]

TEXT: Schema = {"type": "string", "minLength": 1}
ANY_TEXT: Schema = {"type": "string"}
BOOLEAN: Schema = {"type": "boolean"}
TIME: Schema = {"type": "integer", "minimum": 1_000_000_000}
DECIMAL: Schema = {"type": "string", "pattern": r"^-?\d+(\.\d+)?$"}
AMOUNT: Schema = {"type": "string", "pattern": r"^\d+(\.\d+)?$"}
FREE: Schema = {"type": "object"}


def _one_of(*words: str) -> Schema:
    return {"enum": list(words)}


def _or_null(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "null"}]}


def _list(schema: Schema) -> Schema:
    return {"type": "array", "items": schema}


def _object(**properties: Schema) -> Schema:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


STATUS = _one_of("New", "Processing", "Expired", "Invalid", "Settled")

ADDITIONAL_STATUS = _one_of("None", "PaidLate", "PaidPartial", "Marked", "Invalid", "PaidOver")

METHOD = _one_of("BTC-CHAIN", "BTC-LN", "BTC-LNURL")

CHECKOUT = _object(
    speedPolicy=_one_of("HighSpeed", "MediumSpeed", "LowSpeed", "LowMediumSpeed"),
    paymentMethods=_list(METHOD),
    defaultPaymentMethod=_or_null(METHOD),
    lazyPaymentMethods=_or_null(BOOLEAN),
    expirationMinutes={"type": "number", "exclusiveMinimum": 0},
    monitoringMinutes={"type": "number", "minimum": 0},
    paymentTolerance={"type": "number", "minimum": 0, "maximum": 100},
    redirectURL=_or_null(TEXT),
    redirectAutomatically=_or_null(BOOLEAN),
    defaultLanguage=_or_null(TEXT),
)

RECEIPT = _object(
    enabled=_or_null(BOOLEAN), showQR=_or_null(BOOLEAN), showPayments=_or_null(BOOLEAN)
)

INVOICE = _object(
    id=TEXT,
    storeId=TEXT,
    amount=AMOUNT,
    paidAmount=AMOUNT,
    currency={"type": "string", "pattern": "^[A-Z]{3}$"},
    type=_one_of("Standard", "TopUp"),
    checkoutLink={"type": "string", "pattern": "^https?://"},
    createdTime=TIME,
    expirationTime=TIME,
    monitoringExpiration=TIME,
    status=STATUS,
    additionalStatus=ADDITIONAL_STATUS,
    availableStatusesForManualMarking=_list(_one_of("Settled", "Invalid")),
    archived=BOOLEAN,
    metadata=FREE,
    checkout=CHECKOUT,
    receipt=RECEIPT,
)

PAYMENT = _object(
    id=TEXT,
    receivedDate=TIME,
    value=AMOUNT,
    fee=AMOUNT,
    status=_one_of("Invalid", "Processing", "Settled"),
    destination=TEXT,
)

PAYMENT_METHOD = _object(
    paymentMethodId=METHOD,
    currency=_one_of("BTC"),
    destination=TEXT,
    paymentLink=_or_null(TEXT),
    rate=AMOUNT,
    paymentMethodPaid=AMOUNT,
    totalPaid=AMOUNT,
    due=DECIMAL,
    amount=AMOUNT,
    paymentMethodFee=AMOUNT,
    payments=_list(PAYMENT),
    activated=BOOLEAN,
    additionalData=FREE,
)

PULL_PAYMENT = _object(
    id=TEXT,
    name=TEXT,
    description=ANY_TEXT,
    currency=TEXT,
    amount=AMOUNT,
    BOLT11Expiration=TEXT,
    autoApproveClaims=BOOLEAN,
    archived=BOOLEAN,
    startsAt=TIME,
    expiresAt=_or_null(TIME),
    viewLink={"type": "string", "pattern": "^https?://"},
)

PAYOUT = _object(
    id=TEXT,
    revision={"type": "integer"},
    pullPaymentId=TEXT,
    date=TEXT,
    destination=TEXT,
    originalCurrency=TEXT,
    originalAmount=AMOUNT,
    payoutCurrency=TEXT,
    payoutAmount=_or_null(AMOUNT),
    payoutMethodId=METHOD,
    state=_one_of("AwaitingApproval", "AwaitingPayment", "InProgress", "Completed", "Cancelled"),
    paymentProof=_object(proofType=TEXT),
    metadata=FREE,
)
# Only of what was paid out.
PAYOUT["required"].remove("paymentProof")

SERVER = _object(
    version=TEXT,
    supportedPaymentMethods=_list(METHOD),
    fullySynched=BOOLEAN,
    syncStatus=_list(FREE),
)

KEY = _object(apiKey=TEXT, label=TEXT, permissions=_list(TEXT))

PROBLEM = {
    "type": "object",
    "properties": {"code": TEXT, "message": TEXT, "missingPermission": TEXT},
    "required": ["code", "message"],
    "additionalProperties": False,
}

INVALID = {**_list(_object(path=TEXT, message=TEXT)), "minItems": 1}

EMPTY: Schema = {"const": ""}

# Answers to successful calls, by method and path.
ANSWERS = {
    r"POST /api/v1/stores/[^/]+/invoices": INVOICE,
    r"GET /api/v1/stores/[^/]+/invoices": _list(INVOICE),
    r"GET /api/v1/stores/[^/]+/invoices/[^/]+": INVOICE,
    r"GET /api/v1/stores/[^/]+/invoices/[^/]+/payment-methods": _list(PAYMENT_METHOD),
    r"POST /api/v1/stores/[^/]+/invoices/[^/]+/status": INVOICE,
    r"POST /api/v1/stores/[^/]+/invoices/[^/]+/refund": PULL_PAYMENT,
    r"GET /api/v1/stores/[^/]+/pull-payments": _list(PULL_PAYMENT),
    r"DELETE /api/v1/stores/[^/]+/pull-payments/[^/]+": EMPTY,
    r"GET /api/v1/server/info": SERVER,
    r"GET /api/v1/api-keys/current": KEY,
    r"GET /api/v1/pull-payments/[^/]+": PULL_PAYMENT,
    r"GET /api/v1/pull-payments/[^/]+/payouts": _list(PAYOUT),
}

REFUSALS = {400: PROBLEM, 401: PROBLEM, 403: PROBLEM, 404: PROBLEM, 422: INVALID}


def of_answer(method: str, path: str, status: int) -> Schema:
    """Return the schema of an answer; an empty body counts as the empty string.

    Raises KeyError for a call or status that the schema does not describe.
    """
    if status != 200:
        return REFUSALS[status]
    for pattern, schema in ANSWERS.items():
        if re.fullmatch(pattern, f"{method} {path}"):
            return schema
    raise KeyError(f"{method} {path}")


def _event(**further: Schema) -> Schema:
    return _object(
        deliveryId=TEXT,
        webhookId=TEXT,
        originalDeliveryId=TEXT,
        isRedelivery=BOOLEAN,
        type=TEXT,
        timestamp=TIME,
        storeId=TEXT,
        invoiceId=TEXT,
        metadata=FREE,
        **further,
    )


_OF_PAYMENT = _event(afterExpiration=BOOLEAN, paymentMethodId=METHOD, payment=PAYMENT)

EVENTS = {
    "InvoiceCreated": _event(),
    "InvoiceReceivedPayment": _OF_PAYMENT,
    "InvoicePaymentSettled": _OF_PAYMENT,
    "InvoiceProcessing": _event(overPaid=BOOLEAN),
    "InvoiceExpired": _event(partiallyPaid=BOOLEAN),
    "InvoiceSettled": _event(manuallyMarked=BOOLEAN, overPaid=BOOLEAN),
    "InvoiceInvalid": _event(manuallyMarked=BOOLEAN),
    "InvoiceExpiredPaidPartial": _event(),
    "InvoicePaidAfterExpiration": _event(),
    "InvoiceRefund": _event(pullPaymentId=TEXT),
}
