"""Services: what promptly does, by subject; called by views, commands and tasks.

    accounts            registration, API keys and authentication, trials, the list of accounts
    ledger              balances and every change of them but usage; adjustments, verification
    metering            hold tokens before a request, settle when it ends, recover after a crash
    usage               usage events: receipts, daily totals, statements, statistics, partitions
    mail                the outbox, the messages, alerts of low balances and ending trials
    payments            orders, checkout, webhooks, credits, refunds, reconciliation
    imports             bring over accounts, purchases and usage from model-gateway
    account_deletion    close an account, end and settle its requests, remove it
    drains              model servers that get no new request
    audit               the append-only log of administrative acts
    panel_sessions      sessions of the panel that were signed out
    overview            the figures of the operator's start page
    money_health        what is open or waits, for Prometheus
    operator_mail       alerts and the daily digest to OPERATOR_EMAIL, outages of model servers
    leases              the right to work on a row while calling a provider or the mail server
    paging              keyset pagination of long lists

Services flush and never commit, except those whose docstrings say that they open transactions.
"""
