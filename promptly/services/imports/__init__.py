"""Imports: bring over accounts from model-gateway, the gateway that promptly follows.

    schema       its tables, and how a database with them is recognised
    source       reads them, in one snapshot, a batch of accounts at a time
    accounts     creates an account, or brings one up to date that was imported before
    purchases    its purchases as credited orders
    usage        its usage as roll-ups
    outcome      what was brought over of one account, and the report on all of them

An account is imported in one transaction, which the command opens. Importing it again changes
nothing, unless its figures there have changed since: then it brings over the difference.
"""
