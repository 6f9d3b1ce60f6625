"""Mail to OPERATOR_EMAIL: alerts, each about a thing once, and a daily digest.

alerts    finds news of a topic, remembers it and mails it, in one transaction
topics    the things that alerts are about, in SQL and in words
outages   model servers that do not answer
digest    the figures of a day, and what waits for the operator
"""
