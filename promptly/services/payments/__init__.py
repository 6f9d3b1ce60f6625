"""Payments: order a pack, pay at a provider, credit the tokens once, refund them.

    offers                     packs, and amounts that customers choose
    clicks                     the purchase that a click continues, so that none is made twice
    checkout                   create an order and send the customer to the provider's page
    webhook_inbox              store a provider's event
    webhook_handler            find out which order an event is about
    sync                       fetch the provider's snapshot of an order and apply it, under a lease
    apply                      turn a snapshot into states, credits, reversals and cases
    reconciliation             do all of it, whether or not a webhook arrived, and report it
    part_payments              Bitcoin that came in part: what is due, and the mails about it
    purchase_receipts          receipts to print
    inherited_pages            payments on pages of the gateway that was imported
    refunds, case_decisions    what an operator requests and decides
    funds                      what came for an order and went back: the bound of every refund
    slices                     read a provider's long list in slices, oldest first
    installation               the id by which installations leave each other's pages alone
    providers/                 the protocol of a provider, the registry, Stripe and BTCPay

`checkout`, `webhook_handler`, `sync`, `reconciliation`, `refunds.read_received`,
`refunds.execute_refund` and `case_decisions.prepare` open their own transactions, because none may
be open during a call to a provider; call them outside of any.
"""
