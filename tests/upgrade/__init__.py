"""Two releases side by side on one database and one Redis, under load (`make upgrade-test`).

release     a release's commands and processes, as its documents describe them
traffic     honest clients of every kind of request, and a record of each
customers   accounts with keys, sessions, orders and mails from before the upgrade
books       comparison of balances, charges, payments and mails afterwards
"""
