"""Payments: packs are ordered, paid at a provider, credited once, and refunded.

    checkout        a customer wants to pay: the order, then the provider's page
    inbox           a webhook came: what is it about?
    syncing         what does the provider say about this order? fetched and applied under a lease
    applying        a provider's truth becomes states, credits, reversals and cases
    reconciliation  all of it, whether or not a webhook came
    refunds, resolving    what an operator asks for and decides

`checkout`, `inbox`, `syncing`, `reconciliation` and `refunds.carry_out` open transactions of their
own, because none may be open while a provider is asked; call them outside of any.
"""
