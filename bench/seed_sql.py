"""The SQL that fills a database: a made-up service of a given size, three months old.

Everything derives from serial numbers: account n is the n-th, and its figures come from hashes and
curves, so that two runs differ little. Accounts joined one after the other during a year. A few
cause most of the usage: an event's account is the fourth power of a random number, scaled to the
accounts that existed then.
"""

from promptly.services.usage import breakdowns

# The packs: name, tokens, price in minor units.
PACKS = "(VALUES ('starter', 5000000, 50), ('standard', 25000000, 200), ('pro', 100000000, 600))"
DAYS = 90

USERS = """
INSERT INTO users (id, email, key_prefix, created_at) OVERRIDING SYSTEM VALUE
SELECT n,
       (ARRAY['dev', 'agent', 'lab', 'team', 'nightly', 'ops'])[1 + n % 6] || n || '@'
       || (ARRAY['example.com', 'example.org', 'mail.example.net', 'labs.example'])[1 + n / 7 % 4],
       'sk-' || substr(md5('key' || n), 1, 9),
       now() - interval '365 days' * (1 - n::float / :users)
FROM generate_series(1, :users) AS n
"""

KEYS = """
INSERT INTO api_keys (user_id, name, prefix, key_hash, created_at)
SELECT id, 'default', key_prefix, sha256(convert_to('key' || id, 'UTF8')), created_at FROM users
"""

PARTITION = f"""
DO $$
DECLARE
    first date := date_trunc('month', now() AT TIME ZONE 'UTC' - interval '{DAYS} days');
    name text;
BEGIN
    WHILE first < now() AT TIME ZONE 'UTC' LOOP
        name := 'usage_events_' || to_char(first, 'YYYY_MM');
        IF to_regclass(name) IS NULL THEN
            EXECUTE format(
                'CREATE TABLE %I PARTITION OF usage_events FOR VALUES FROM (%L) TO (%L)', name,
                first::text || ' 00:00:00+00',
                (first + interval '1 month')::date::text || ' 00:00:00+00'
            );
        END IF;
        first := first + interval '1 month';
    END LOOP;
END $$
"""

# In order of time, as they would have arrived: the sine makes weeks of quiet and busy days. Ids
# start with the request's time in milliseconds, like promptly's own.
EVENTS = """
WITH moments AS MATERIALIZED (
    SELECT n, now() - interval '90 days'
              * least(left_over - 0.005 * sin(left_over * 2 * pi() * 90 / 7), 1) AS at,
           random() AS r1, random() AS r2, random() AS r3, random() AS r4
    FROM (
        SELECT n, 1 - n::float / :events AS left_over FROM generate_series(:first, :last) AS n
    ) AS numbers
),
requests AS (
    SELECT n, at,
           greatest(ceil(
               floor(:users * (1 - extract(epoch FROM now() - at) / (365 * 86400))) * power(r1, 4)
           ), 1)::bigint AS user_id,
           (20 + 60000 * power(r2, 6))::integer AS prompt_tokens,
           (1 + 1500 * power(r3, 3))::integer AS completion_tokens,
           (200 + 90000 * power(r3, 3) * (0.5 + r4))::integer AS duration_ms,
           CASE WHEN r4 < 0.925 THEN 'completed'
                WHEN r4 < 0.955 THEN 'client_disconnected'
                WHEN r4 < 0.970 THEN 'balance_exhausted'
                WHEN r4 < 0.980 THEN 'upstream_error'
                WHEN r4 < 0.990 THEN 'rejected'
                WHEN r4 < 0.995 THEN 'recovered'
                ELSE 'timeout' END AS outcome,
           (ARRAY['qwen3-coder-30b', 'qwen3-coder-30b', 'gpt-oss-120b'])[1 + (r4 * 1000)::int % 3]
               AS model
    FROM moments
),
counted AS (
    SELECT n, at, user_id, model, outcome, duration_ms,
           CASE WHEN outcome = 'rejected' THEN 0 ELSE prompt_tokens END AS prompt_tokens,
           CASE WHEN outcome = 'rejected' THEN 0 ELSE completion_tokens END AS completion_tokens
    FROM requests
)
INSERT INTO usage_events (
    request_id, created_at, user_id, key_id, endpoint, model, outcome, prompt_tokens,
    cached_prompt_tokens, completion_tokens, charged_paid, charged_trial, uncharged_tokens,
    balance_tokens, time_to_first_token_ms, duration_ms
)
SELECT (lpad(to_hex((extract(epoch FROM at) * 1000)::bigint - duration_ms), 12, '0')
        || '7' || substr(md5(n::text), 1, 3) || '8' || substr(md5(n::text), 4, 15))::uuid,
       at, user_id, user_id, 'chat.completions', model, outcome, prompt_tokens,
       prompt_tokens * (n % 5) / 5, completion_tokens, prompt_tokens + completion_tokens, 0, 0,
       1000000,
       (50 + duration_ms * 0.1)::integer, duration_ms
FROM counted
"""

# Accounts with usage have bought enough for it: packs of a fitting size, sometimes one more.
ORDERS = f"""
WITH used AS (
    SELECT user_id, sum(charged_tokens) AS tokens FROM usage_rollups GROUP BY user_id
),
buyers AS (
    SELECT u.id, u.created_at, p.name, p.tokens, p.amount_minor,
           ceil(used.tokens / p.tokens)::integer + (u.id % 4 = 0)::integer AS packs
    FROM users u
    JOIN used ON used.user_id = u.id AND used.tokens > 0
    JOIN {PACKS} AS p (name, tokens, amount_minor)
      ON p.name = CASE WHEN used.tokens > 50000000 THEN 'pro'
                       WHEN used.tokens > 5000000 THEN 'standard' ELSE 'starter' END
),
bought AS (
    SELECT b.*, md5(b.id || '-' || k) AS noise, k,
           greatest(b.created_at, now() - interval '90 days') AS since
    FROM buyers b CROSS JOIN LATERAL generate_series(1, b.packs) AS k
),
tried AS (
    SELECT id, created_at, 'starter' AS name, 5000000 AS tokens, 50 AS amount_minor, 1 AS packs,
           md5('tried' || id) AS noise, 0 AS k, greatest(created_at, now() - interval '90 days')
    FROM users WHERE id % 8 = 0
),
purchases AS (
    SELECT *, since + (now() - since)
              * ((get_byte(decode(noise, 'hex'), 0) * 256 + get_byte(decode(noise, 'hex'), 1))
                 / 65536.0) AS moment
    FROM (SELECT * FROM bought UNION ALL SELECT * FROM tried) AS all_of_them
)
INSERT INTO orders (
    number, user_id, pack, tokens, amount_minor, currency, provider, livemode, state, checkout_id,
    payment_id, provider_status, credited_at, expires_at, called_at, checked_at, created_at,
    updated_at, received_minor, returned_minor
)
SELECT 'P-' || left(letters, 4) || '-' || substr(letters, 5, 4) || '-' || right(letters, 4),
       id, name, tokens, amount_minor, 'USD', provider, noise NOT LIKE '000%',
       CASE WHEN k > 0 THEN 'paid' WHEN id % 400 = 0 THEN 'attention'
            WHEN id % 24 = 0 THEN 'failed' ELSE 'expired' END,
       'cs_seed_' || noise, CASE WHEN k > 0 THEN 'pi_seed_' || noise END,
       CASE WHEN k > 0 THEN 'complete/paid' ELSE 'expired/unpaid' END,
       CASE WHEN k > 0 THEN moment END, moment + interval '2 hours', moment, moment, moment, moment,
       CASE WHEN k > 0 THEN amount_minor ELSE 0 END, 0
FROM (
    SELECT *, upper(translate(substr(md5(noise || id), 1, 12), '01', '23')) AS letters,
           CASE WHEN id % 10 < 7 THEN 'stripe' ELSE 'btcpay' END AS provider
    FROM purchases
) AS numbered
ORDER BY moment
"""

# A few accounts get their additional, unspent pack refunded.
REFUNDS = """
WITH chosen AS (
    SELECT DISTINCT ON (user_id) id FROM orders
    WHERE credited_at IS NOT NULL AND user_id % 200 = 0 ORDER BY user_id, id DESC
),
reversed AS (
    UPDATE orders o
    SET state = 'refunded', tokens_taken = tokens, reversed_minor = amount_minor,
        refunded_minor = amount_minor, reversal_count = 1, returned_minor = amount_minor
    FROM chosen WHERE o.id = chosen.id
    RETURNING o.id, o.number, o.provider, o.amount_minor, o.user_id, o.tokens, o.credited_at
),
entries AS (
    INSERT INTO ledger_entries (user_id, kind, paid_delta, reference, actor, created_at)
    SELECT user_id, 'purchase_reversed', -tokens, number || '/1', provider, credited_at
    FROM reversed
)
INSERT INTO payment_reversals (
    order_id, kind, provider, provider_id, amount_minor, state, active, actor, created_at
)
SELECT id, 'refund', provider, 're_seed_' || id, amount_minor, 'succeeded', true, 'cli:operator',
       credited_at
FROM reversed
"""

# A trial for every account, lapsed after a week; a credit for each purchase.
ENTRIES = """
INSERT INTO ledger_entries (user_id, kind, paid_delta, trial_delta, reference, actor, created_at)
SELECT user_id, kind, paid, trial, reference, actor, at
FROM (
    SELECT id AS user_id, 'trial_grant' AS kind, 0::bigint AS paid, 100000::bigint AS trial,
           NULL AS reference, 'system' AS actor, created_at AS at FROM users
    UNION ALL
    SELECT id, 'trial_lapse', 0, -100000, NULL, 'system', created_at + interval '7 days'
    FROM users WHERE created_at < now() - interval '7 days'
    UNION ALL
    SELECT user_id, 'purchase', tokens, 0, number, provider, credited_at
    FROM orders WHERE credited_at IS NOT NULL
) AS entries
ORDER BY at
"""

BALANCES = """
INSERT INTO balances (user_id, paid_tokens, trial_tokens, trial_expires_at)
SELECT u.id, coalesce(e.paid, 0) - coalesce(c.paid, 0), coalesce(e.trial, 0),
       u.created_at + interval '7 days'
FROM users u
LEFT JOIN (
    SELECT user_id, sum(paid_delta) AS paid, sum(trial_delta) AS trial
    FROM ledger_entries GROUP BY user_id
) AS e ON e.user_id = u.id
LEFT JOIN (
    SELECT user_id, sum(charged_tokens) AS paid FROM usage_rollups GROUP BY user_id
) AS c ON c.user_id = u.id
"""

# As if usage had been broken down on each of the days.
LONG_BROKEN_DOWN = f"""
INSERT INTO sweep_states (name, last_run_at)
VALUES ('{breakdowns.SWEEP_NAME}', now() - interval '{DAYS} days')
"""

HOLDS = """
WITH chosen AS (
    SELECT user_id FROM balances WHERE paid_tokens > 100000 ORDER BY user_id LIMIT 200
),
held AS (
    UPDATE balances b SET held_paid = 20000, open_holds = 1
    FROM chosen WHERE b.user_id = chosen.user_id RETURNING b.user_id
)
INSERT INTO holds (request_id, user_id, key_id, held_paid, prompt_tokens, endpoint, model,
                   created_at, checkpoint_at)
SELECT (lpad(to_hex((extract(epoch FROM now()) * 1000)::bigint), 12, '0') || '7'
        || substr(md5(user_id::text), 1, 3) || '8' || substr(md5(user_id::text), 4, 15))::uuid,
       user_id, user_id, 20000, 1500, 'chat.completions', 'qwen3-coder-30b',
       now() - interval '1 second' * (user_id % 90), now() - interval '1 second' * (user_id % 3)
FROM held
"""

WEBHOOKS = """
INSERT INTO webhook_events (
    provider, event_id, type, object_id, order_id, state, reason, attempts, received_at, handled_at
)
SELECT provider, 'evt_seed_' || id || '_' || k,
       CASE WHEN provider = 'stripe'
            THEN (ARRAY['checkout.session.completed', 'charge.succeeded'])[k]
            ELSE (ARRAY['InvoiceSettled', 'InvoiceProcessing'])[k] END,
       checkout_id, id,
       CASE WHEN id % 3000 = 0 THEN 'parked' WHEN k = 2 THEN 'ignored' ELSE 'handled' END,
       CASE WHEN id % 3000 = 0 THEN 'the provider has no such page: ' || checkout_id
            WHEN k = 2 THEN 'of no interest here' END,
       1, created_at, created_at
FROM orders CROSS JOIN generate_series(1, 2) AS k
WHERE credited_at IS NOT NULL
ORDER BY created_at
"""

CASES = """
INSERT INTO payment_cases (order_id, provider, checkout_id, kind, detail, paid_minor, created_at)
SELECT id, provider, checkout_id,
       CASE WHEN provider = 'btcpay' THEN 'paid_partial' ELSE 'amount' END,
       'Less than the price came.', amount_minor / 2, created_at
FROM orders WHERE state = 'attention'
"""

MAILS = """
INSERT INTO outbox (
    user_id, recipient, kind, payload, state, attempts, next_at, last_error, created_at, sent_at
)
SELECT user_id, email, kind, payload, CASE WHEN failed THEN 'failed' ELSE 'sent' END, 1, at,
       CASE WHEN failed THEN '550 5.1.1 no such mailbox' END, at, CASE WHEN NOT failed THEN at END
FROM (
    SELECT id AS user_id, email, 'new_key' AS kind, '{}'::jsonb AS payload, created_at AS at,
           id % 2000 = 0 AS failed FROM users
    UNION ALL
    SELECT o.user_id, u.email, 'receipt', jsonb_build_object('number', o.number), o.credited_at,
           o.id % 5000 = 0
    FROM orders o JOIN users u ON u.id = o.user_id WHERE o.credited_at IS NOT NULL
) AS mails
ORDER BY at
"""

AUDIT = """
INSERT INTO audit_entries (actor, address, action, user_id, subject, before, after, created_at)
SELECT (ARRAY['panel', 'api', 'cli:operator'])[1 + n % 3], '127.0.0.1',
       (ARRAY['balance.adjust', 'balance.grant', 'mail.resend'])[1 + n / 3 % 3],
       1 + n * 37 % :users, NULL, '{"paid_tokens": 1}', '{"paid_tokens": 2}',
       now() - interval '90 days' * (1 - n::float / (:users / 4 + 1))
FROM generate_series(1, :users / 4) AS n
"""

RECONCILIATIONS = """
INSERT INTO payment_reconciliations
    (actor, started_at, leased_until, finished_at, complete, report)
SELECT 'system', at, at, at + interval '3 seconds', true,
       '{"orders_checked": 4, "pages_listed": 60, "changed": [], "problems": []}'
FROM generate_series(now() - interval '3 days', now(), interval '10 minutes') AS at
"""

SEQUENCE = "SELECT setval(pg_get_serial_sequence('users', 'id'), (SELECT max(id) FROM users))"
