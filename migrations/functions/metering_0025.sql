-- Authenticates a request's key and holds what is wanted, in the usual case: a key without limits, and
-- all of it from trial tokens, or none because there are none. Returns what the account could spend
-- before, null if nothing was held, for whatever reason: then the key has to be looked up. So nothing
-- that the caller knew of the key before is relied on.
CREATE FUNCTION metering_admit(
    p_key_hash bytea, p_key_id bigint, p_batch boolean, p_pays boolean, p_request_id uuid,
    p_endpoint text, p_model text, p_wanted bigint, p_max_open_holds integer, p_price_id integer
)
RETURNS bigint
LANGUAGE plpgsql SET enable_seqscan = off AS $$
DECLARE
    owner bigint;
    trial_left bigint;
    paid_left bigint;
    take_trial bigint;
BEGIN
    PERFORM set_config('synchronous_commit', 'off', true);
    -- Trial tokens only if some are left afterwards: that shows in the new row where it took them.
    UPDATE balances b
    SET held_trial = b.held_trial + CASE
            WHEN b.trial_expires_at > now() AND b.trial_tokens > b.held_trial THEN p_wanted
            ELSE 0
        END,
        held_paid = b.held_paid + CASE
            WHEN b.trial_expires_at > now() AND b.trial_tokens > b.held_trial THEN 0
            ELSE p_wanted
        END,
        open_holds = b.open_holds + 1
    FROM api_keys k JOIN users u ON u.id = k.user_id
    WHERE k.key_hash = p_key_hash AND k.id = p_key_id AND k.batch = p_batch
      AND k.revoked_at IS NULL
      AND (k.expires_at <= now()) IS NOT TRUE
      AND k.allowed_models IS NULL AND k.allowed_addresses IS NULL
      AND u.suspended_at IS NULL
      AND b.user_id = k.user_id
      AND b.limited_keys = 0
      AND b.open_holds < coalesce(u.concurrent_requests, p_max_open_holds)
      AND (b.paid_tokens > 0) = p_pays
      AND CASE
          WHEN b.trial_expires_at > now() AND b.trial_tokens > b.held_trial
          THEN b.trial_tokens - b.held_trial > p_wanted
          ELSE b.paid_tokens - b.held_paid >= p_wanted
      END
    RETURNING b.user_id, b.paid_tokens - b.held_paid,
              CASE WHEN b.trial_expires_at > now() THEN b.trial_tokens - b.held_trial ELSE 0 END
    INTO owner, paid_left, trial_left;
    IF FOUND THEN
        take_trial := CASE WHEN trial_left > 0 THEN p_wanted ELSE 0 END;
        INSERT INTO holds (
            request_id, user_id, key_id, held_trial, held_paid, endpoint, model, price_id
        )
        VALUES (
            p_request_id, owner, p_key_id, take_trial, p_wanted - take_trial, p_endpoint, p_model,
            p_price_id
        );
    END IF;
    RETURN paid_left + trial_left + p_wanted;
END $$;
