"""The contract of /v1 as an OpenAPI 3.1 document.

What is asked for is generated from the types that check requests, what is answered from the types
declared here, one file for each subject; tests hold real answers against them. `document` puts all
of it together.
"""

from promptly.openapi.document import OPERATIONS, document

__all__ = ["OPERATIONS", "document"]
