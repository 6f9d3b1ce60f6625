"""The SQL of metering.

The steps on a request's path are functions in PostgreSQL (`migrations/functions`), called here;
statements that run rarely or for many holds at once are written out here.
"""

PLACE_HOLD = """
SELECT * FROM metering_place_hold(
    %(request_id)s, %(user_id)s, %(key_id)s, %(endpoint)s, %(model)s,
    %(wanted)s, %(minimum)s, %(max_open_holds)s, %(price_id)s, %(silent_of_key)s
)
"""

# A scalar: PostgreSQL plans a function in FROM at twice the cost.
ADMIT = """
SELECT metering_admit(
    %(key_hash)s, %(key_id)s, %(batch)s, %(pays)s, %(request_id)s, %(endpoint)s, %(model)s,
    %(wanted)s, %(max_open_holds)s, %(price_id)s
)
"""

# Only for an unknown request: the hold of a known one was not lost but has ended.
PLACE_LOST_HOLD = f"""
SELECT p.*
FROM (
    SELECT WHERE NOT EXISTS (SELECT FROM holds WHERE request_id = %(request_id)s)
      AND NOT EXISTS (SELECT FROM usage_events WHERE request_id = %(request_id)s)
) AS unknown,
LATERAL ({PLACE_HOLD}) AS p
"""

SPENDABLE = """
SELECT paid_tokens - held_paid
       + CASE WHEN trial_expires_at > now() THEN trial_tokens - held_trial ELSE 0 END,
       held_paid + held_trial
FROM balances WHERE user_id = %(user_id)s
"""

MOVE_HOLD = "SELECT * FROM metering_move_hold(%(request_id)s, %(target)s)"

SETTLE = """
SELECT * FROM metering_settle(
    %(request_id)s, %(model)s, %(outcome)s, %(prompt_tokens)s, %(cached_prompt_tokens)s,
    %(completion_tokens)s, %(time_to_first_token_ms)s, %(duration_ms)s
)
"""

SETTLE_MANY = """
SELECT * FROM metering_settle_many(
    %(request_ids)s::uuid[], %(models)s, %(outcomes)s, %(prompt_tokens)s::int[],
    %(cached_prompt_tokens)s::int[], %(completion_tokens)s::int[],
    %(time_to_first_token_ms)s::int[], %(duration_ms)s::int[]
)
"""

RECOVER = "SELECT * FROM metering_recover(%(request_id)s, %(stale_seconds)s)"

# Open holds without a checkpoint for `silent_seconds`, of an account, and of one of its keys: their
# process must be dead or stopped.
SILENT_HOLDS = """
SELECT count(*), count(*) FILTER (WHERE key_id = %(key_id)s) FROM holds
WHERE user_id = %(user_id)s AND state = 'open'
  AND checkpoint_at < now() - make_interval(secs => %(silent_seconds)s)
"""

CHECKPOINT = """
WITH quick AS MATERIALIZED (SELECT set_config('synchronous_commit', 'off', true))
UPDATE holds h
SET prompt_tokens = n.prompt_tokens,
    cached_prompt_tokens = n.cached_prompt_tokens,
    completion_tokens = n.completion_tokens,
    checkpoint_at = now()
FROM quick, unnest(
    %(request_ids)s::uuid[], %(prompt_tokens)s::int[], %(cached_prompt_tokens)s::int[],
    %(completion_tokens)s::int[]
) AS n (request_id, prompt_tokens, cached_prompt_tokens, completion_tokens)
WHERE h.request_id = n.request_id AND h.state = 'open'
RETURNING h.request_id,
          h.user_id IN (SELECT u.id FROM users u WHERE u.closed_at IS NOT NULL),
          h.user_id IN (SELECT u.id FROM users u WHERE u.suspended_at IS NOT NULL)
"""

STALE_HOLDS = """
SELECT request_id FROM holds
WHERE state = 'open' AND checkpoint_at < now() - make_interval(secs => %(stale_seconds)s)
ORDER BY checkpoint_at
LIMIT %(limit)s
"""

PURGE_HOLDS = """
DELETE FROM holds WHERE request_id IN (
    SELECT request_id FROM holds
    WHERE state <> 'open' AND checkpoint_at < now() - make_interval(secs => %(keep_seconds)s)
    LIMIT %(limit)s
)
"""

# Late settlements run as several statements of one transaction, under this lock.
LOCK_REQUEST = "SELECT pg_advisory_xact_lock(hashtextextended(:request_id, 724101))"

LOCK_HOLD = "SELECT 1 FROM holds WHERE request_id = CAST(:request_id AS uuid) FOR UPDATE"

LATE_STATE = """
SELECT (SELECT state FROM holds WHERE request_id = CAST(:request_id AS uuid)),
       e.charged_trial + e.charged_paid, e.uncharged_tokens, e.balance_tokens,
       (SELECT metering_cost(p, :prompt_tokens, :cached_prompt_tokens, :completion_tokens)
        FROM prices p WHERE p.id = :price_id)
FROM (VALUES (1)) AS one (row)
LEFT JOIN usage_events e
       ON e.request_id = CAST(:request_id AS uuid) AND e.created_at >= :not_before
"""

MARK_SETTLED = "UPDATE holds SET state = 'settled' WHERE request_id = CAST(:request_id AS uuid)"

# A separate statement for the lock: PostgreSQL checks constraints against the row of the snapshot
# before it notices a concurrent update, and would reject a valid change.
LOCK_BALANCE = """
SELECT CASE WHEN trial_expires_at > now() THEN trial_tokens - held_trial ELSE 0 END,
       paid_tokens - held_paid, trial_expires_at > now(), limited_keys > 0
FROM balances WHERE user_id = :user_id FOR UPDATE
"""

# Of a key with limits, under the lock of its balance: the tokens that it can still take, null
# without a cap, and the start of its period.
KEY_ROOM = """
SELECT metering_key_room(l), l.period_start FROM metering_key_limits(:key_id) AS l
"""

CHARGE_KEY = """
UPDATE key_limits l
SET period_start = n.period_start, used_tokens = n.used_tokens + :charged_of_key
FROM metering_key_limits(:key_id) AS n
WHERE l.key_id = n.key_id
"""

# Charge a cost that no hold covers to the free tokens; negative figures are given back.
CHARGE_FREE = """
UPDATE balances
SET trial_tokens = trial_tokens - :charged_trial,
    paid_tokens = paid_tokens - :charged_paid
WHERE user_id = :user_id
"""

EVENT_CHARGES = """
SELECT charged_trial, charged_paid, uncharged_tokens, created_at FROM usage_events
WHERE request_id = CAST(:request_id AS uuid) AND created_at >= :not_before
FOR UPDATE
"""

UPDATE_EVENT = """
UPDATE usage_events
SET prompt_tokens = :prompt_tokens,
    cached_prompt_tokens = :cached_prompt_tokens,
    completion_tokens = :completion_tokens,
    charged_trial = charged_trial + :charged_trial,
    charged_paid = charged_paid + :charged_paid,
    uncharged_tokens = uncharged_tokens + :uncharged_tokens,
    balance_tokens = :balance_tokens,
    outcome = :outcome,
    model = :model,
    time_to_first_token_ms = :time_to_first_token_ms,
    duration_ms = :duration_ms
WHERE request_id = CAST(:request_id AS uuid) AND created_at >= :not_before
RETURNING charged_trial + charged_paid, uncharged_tokens, balance_tokens
"""

INSERT_EVENT = """
INSERT INTO usage_events (
    request_id, user_id, key_id, endpoint, model, outcome,
    prompt_tokens, cached_prompt_tokens, completion_tokens,
    charged_trial, charged_paid, uncharged_tokens, balance_tokens,
    time_to_first_token_ms, duration_ms, price_id
)
VALUES (
    CAST(:request_id AS uuid), :user_id, :key_id, :endpoint, :model, :outcome,
    :prompt_tokens, :cached_prompt_tokens, :completion_tokens,
    :charged_trial, :charged_paid, :uncharged_tokens, :balance_tokens,
    :time_to_first_token_ms, :duration_ms, :price_id
)
RETURNING charged_trial + charged_paid, uncharged_tokens, balance_tokens
"""
