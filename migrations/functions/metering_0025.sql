-- Authenticates a request's key and holds what is wanted, in the usual case: a key without limits, of
-- an account that has paid tokens for it. Returns what the account could spend before, null if nothing
-- was held, for whatever reason: then the key has to be looked up. So nothing that the caller knew of
-- the key before is relied on.
CREATE FUNCTION metering_admit(
    p_key_hash bytea, p_key_id bigint, p_batch boolean, p_request_id uuid, p_endpoint text,
    p_model text, p_wanted bigint, p_max_open_holds integer, p_price_id integer
)
RETURNS bigint
LANGUAGE plpgsql SET enable_seqscan = off AS $$
DECLARE
    owner bigint;
    available bigint;
BEGIN
    PERFORM set_config('synchronous_commit', 'off', true);
    UPDATE balances b
    SET held_paid = b.held_paid + p_wanted, open_holds = b.open_holds + 1
    FROM api_keys k JOIN users u ON u.id = k.user_id
    WHERE k.key_hash = p_key_hash AND k.id = p_key_id AND k.batch = p_batch
      AND k.revoked_at IS NULL
      AND (k.expires_at <= now()) IS NOT TRUE
      AND k.allowed_models IS NULL AND k.allowed_addresses IS NULL
      AND u.suspended_at IS NULL
      AND b.user_id = k.user_id
      AND b.limited_keys = 0
      AND b.open_holds < coalesce(u.concurrent_requests, p_max_open_holds)
      AND b.paid_tokens > 0
      AND b.paid_tokens - b.held_paid >= p_wanted
      AND (b.trial_tokens <= b.held_trial OR b.trial_expires_at <= now()) IS NOT FALSE
    RETURNING b.user_id, b.paid_tokens - b.held_paid + p_wanted
    INTO owner, available;
    IF FOUND THEN
        INSERT INTO holds (request_id, user_id, key_id, held_paid, endpoint, model, price_id)
        VALUES (p_request_id, owner, p_key_id, p_wanted, p_endpoint, p_model, p_price_id);
    END IF;
    RETURN available;
END $$;
