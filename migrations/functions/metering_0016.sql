-- Records how much of the prompt was cached. The price does not depend on it.
--
-- The settling functions get one more argument. Those without it stay for the release before, whose
-- holds have no cached tokens.


-- Charges the counts of a hold that has just left the state open, frees the rest, and records the
-- event. The cost is taken first from what was held, then from what is free; what neither covers
-- stays uncharged. A cost of nothing is recorded only on demand.
CREATE OR REPLACE FUNCTION metering_charge(
    hold holds, p_outcome text, p_time_to_first_token_ms integer, p_duration_ms integer,
    p_record_nothing boolean
)
RETURNS TABLE (charged bigint, uncharged bigint, balance bigint)
LANGUAGE plpgsql AS $$
DECLARE
    owned balances%ROWTYPE;
    cost bigint := hold.prompt_tokens::bigint + hold.completion_tokens;
    from_trial bigint;
    from_paid bigint;
    beyond bigint;
    free_trial bigint;
    extra_trial bigint;
BEGIN
    SELECT * INTO owned FROM balances b WHERE b.user_id = hold.user_id FOR UPDATE;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    free_trial := CASE
        WHEN owned.trial_expires_at > now() THEN owned.trial_tokens - owned.held_trial
        ELSE 0
    END;
    from_trial := least(cost, hold.held_trial);
    from_paid := least(cost - from_trial, hold.held_paid);
    beyond := cost - from_trial - from_paid;
    extra_trial := least(beyond, free_trial);
    from_trial := from_trial + extra_trial;
    from_paid := from_paid + least(beyond - extra_trial, owned.paid_tokens - owned.held_paid);
    charged := from_trial + from_paid;
    uncharged := cost - charged;
    UPDATE balances b
    SET trial_tokens = b.trial_tokens - from_trial,
        paid_tokens = b.paid_tokens - from_paid,
        held_trial = b.held_trial - hold.held_trial,
        held_paid = b.held_paid - hold.held_paid,
        open_holds = b.open_holds - 1
    WHERE b.user_id = hold.user_id
    RETURNING b.paid_tokens - b.held_paid + CASE
        WHEN b.trial_expires_at > now() THEN b.trial_tokens - b.held_trial
        ELSE 0
    END INTO balance;
    IF cost > 0 OR p_record_nothing THEN
        INSERT INTO usage_events (
            request_id, user_id, key_id, endpoint, model, outcome,
            prompt_tokens, cached_prompt_tokens, completion_tokens,
            charged_trial, charged_paid, uncharged_tokens, balance_tokens,
            time_to_first_token_ms, duration_ms
        )
        VALUES (
            hold.request_id, hold.user_id, hold.key_id, hold.endpoint, hold.model, p_outcome,
            hold.prompt_tokens, hold.cached_prompt_tokens, hold.completion_tokens,
            from_trial, from_paid, uncharged, balance,
            p_time_to_first_token_ms, p_duration_ms
        );
    END IF;
    RETURN NEXT;
END $$;

-- Ends an open hold at upstream's own counts; durable. No row when it is not open.
CREATE FUNCTION metering_settle(
    p_request_id uuid, p_model text, p_outcome text, p_prompt_tokens integer,
    p_cached_prompt_tokens integer, p_completion_tokens integer,
    p_time_to_first_token_ms integer, p_duration_ms integer
)
RETURNS TABLE (charged bigint, uncharged bigint, balance bigint)
LANGUAGE plpgsql AS $$
DECLARE
    hold holds%ROWTYPE;
BEGIN
    UPDATE holds h
    SET state = 'settled',
        model = p_model,
        prompt_tokens = p_prompt_tokens,
        cached_prompt_tokens = p_cached_prompt_tokens,
        completion_tokens = p_completion_tokens
    WHERE h.request_id = p_request_id AND h.state = 'open'
    RETURNING * INTO hold;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    RETURN QUERY SELECT * FROM metering_charge(
        hold, p_outcome, p_time_to_first_token_ms, p_duration_ms, true
    );
END $$;

-- Settles many requests, of any accounts, in one transaction and so with one wait for the disk. A row
-- for each whose hold was open. All holds are locked before any balance, both in a fixed order, so
-- that batches do not wait for each other in a circle. Gives up, with nothing done, when somebody
-- else keeps a lock: then each is settled on its own, and nobody waits for another's account.
CREATE FUNCTION metering_settle_many(
    p_request_ids uuid[], p_models text[], p_outcomes text[], p_prompt_tokens integer[],
    p_cached_prompt_tokens integer[], p_completion_tokens integer[],
    p_time_to_first_token_ms integer[], p_duration_ms integer[]
)
RETURNS TABLE (request_id uuid, charged bigint, uncharged bigint, balance bigint)
LANGUAGE plpgsql AS $$
DECLARE
    item record;
BEGIN
    PERFORM set_config('lock_timeout', '500ms', true);
    PERFORM FROM holds h
    WHERE h.request_id = ANY (p_request_ids) ORDER BY h.request_id FOR UPDATE;
    FOR item IN
        SELECT s.*
        FROM unnest(
            p_request_ids, p_models, p_outcomes, p_prompt_tokens, p_cached_prompt_tokens,
            p_completion_tokens, p_time_to_first_token_ms, p_duration_ms
        ) AS s (
            id, model, outcome, prompt_tokens, cached_prompt_tokens,
            completion_tokens, time_to_first_token_ms, duration_ms
        )
        JOIN holds h ON h.request_id = s.id
        ORDER BY h.user_id, s.id
    LOOP
        RETURN QUERY SELECT item.id, c.* FROM metering_settle(
            item.id, item.model, item.outcome, item.prompt_tokens, item.cached_prompt_tokens,
            item.completion_tokens, item.time_to_first_token_ms, item.duration_ms
        ) AS c;
    END LOOP;
END $$;

-- Recovers the hold of a dead process at its last checkpoint. Without an output token the client
-- got nothing, so nothing is charged, as in every other way for a request to fail.
CREATE OR REPLACE FUNCTION metering_recover(p_request_id uuid, p_silent_seconds double precision)
RETURNS TABLE (user_id bigint, charged bigint)
LANGUAGE plpgsql AS $$
DECLARE
    hold holds%ROWTYPE;
BEGIN
    UPDATE holds h
    SET state = 'recovered',
        prompt_tokens = CASE WHEN h.completion_tokens > 0 THEN h.prompt_tokens ELSE 0 END,
        cached_prompt_tokens =
            CASE WHEN h.completion_tokens > 0 THEN h.cached_prompt_tokens ELSE 0 END
    WHERE h.request_id = p_request_id AND h.state = 'open'
      AND h.checkpoint_at < now() - make_interval(secs => p_silent_seconds)
    RETURNING * INTO hold;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    RETURN QUERY SELECT hold.user_id, c.charged FROM metering_charge(
        hold, 'recovered', NULL,
        (extract(epoch FROM hold.checkpoint_at - hold.created_at) * 1000)::integer, false
    ) AS c;
END $$;
