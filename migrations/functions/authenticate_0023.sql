-- The owner of a valid key with what it can spend and the limits of both; nulls if there is none. A
-- function, because PostgreSQL plans a statement anew each time, which takes twice as long as running
-- it. `concurrent_requests` is 0 while the account is suspended, null without a number of its own.
CREATE FUNCTION authenticate(
    p_key_hash bytea,
    OUT key_id bigint, OUT user_id bigint, OUT batch boolean, OUT available bigint,
    OUT pays boolean, OUT concurrent_requests integer, OUT expired boolean,
    OUT allowed_models text[], OUT allowed_addresses text[]
)
LANGUAGE plpgsql STABLE AS $$
BEGIN
    SELECT k.id, k.user_id, k.batch,
           coalesce(b.paid_tokens - b.held_paid, 0) + CASE
               WHEN b.trial_expires_at > now() THEN b.trial_tokens - b.held_trial
               ELSE 0
           END,
           coalesce(b.paid_tokens > 0, false),
           CASE WHEN u.suspended_at IS NULL THEN u.concurrent_requests ELSE 0 END,
           k.expires_at <= now(), k.allowed_models, k.allowed_addresses
    INTO key_id, user_id, batch, available, pays, concurrent_requests,
         expired, allowed_models, allowed_addresses
    FROM api_keys k
    JOIN users u ON u.id = k.user_id
    LEFT JOIN balances b ON b.user_id = k.user_id
    WHERE k.key_hash = p_key_hash AND k.revoked_at IS NULL;
END $$;
