"""The contract of /v1 as an OpenAPI 3.1 document.

Request schemas are generated from the types that check requests, response schemas from the types
declared here, one module per subject; tests compare real answers with them. `document` assembles
the whole.
"""

from promptly.openapi.document import OPERATIONS, document, operations

__all__ = ["OPERATIONS", "document", "operations"]
