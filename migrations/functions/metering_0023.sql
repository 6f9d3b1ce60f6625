-- The same steps in fewer statements. In the usual case (the balance covers what is wanted, the hold
-- covers its cost, the account has no keys with limits) one update checks and changes a balance; the
-- ways of before follow where it does not apply. A settled hold is deleted: its usage event says that
-- it was settled, and an update would write each of its index entries anew.
--
-- An update that waited for a lock checks its condition again and computes with the newest row. The
-- constraints are checked with the older row as well, which the condition has to satisfy, too.


-- Holds what is wanted, or what is left if that is at least the minimum. One row, none if there is
-- no such account; `placed` says whether it did, the rest is what account and key had before. Without
-- a maximum of open holds the key's own does not count either; silent holds of the key are allowed
-- beyond its own.
CREATE OR REPLACE FUNCTION metering_place_hold(
    p_request_id uuid, p_user_id bigint, p_key_id bigint, p_endpoint text, p_model text,
    p_wanted bigint, p_minimum bigint, p_max_open_holds integer, p_price_id integer,
    p_silent_of_key integer
)
RETURNS TABLE (
    placed boolean, held bigint, available bigint, reserved bigint, open_holds integer,
    key_room bigint, key_reserved bigint, key_open_holds integer, key_max_open_holds integer,
    key_cap bigint, key_period text
)
LANGUAGE plpgsql AS $$
DECLARE
    owned balances%ROWTYPE;
    limits key_limits%ROWTYPE;
    free_trial bigint;
    take_trial bigint;
BEGIN
    PERFORM set_config('synchronous_commit', 'off', true);
    -- Paid tokens only, as nearly always: which part a trial takes depends on the row.
    UPDATE balances b
    SET held_paid = b.held_paid + p_wanted, open_holds = b.open_holds + 1
    WHERE b.user_id = p_user_id
      AND b.limited_keys = 0
      AND b.open_holds < p_max_open_holds
      AND b.paid_tokens - b.held_paid >= p_wanted
      AND (b.trial_tokens <= b.held_trial OR b.trial_expires_at <= now()) IS NOT FALSE
    RETURNING b.paid_tokens - b.held_paid + p_wanted, b.held_trial + b.held_paid - p_wanted,
              b.open_holds - 1
    INTO available, reserved, open_holds;
    IF FOUND THEN
        placed := true;
        held := p_wanted;
        take_trial := 0;
    ELSE
        SELECT * INTO owned FROM balances b WHERE b.user_id = p_user_id FOR UPDATE;
        IF NOT FOUND THEN
            RETURN;
        END IF;
        free_trial := CASE
            WHEN owned.trial_expires_at > now() THEN owned.trial_tokens - owned.held_trial
            ELSE 0
        END;
        available := free_trial + owned.paid_tokens - owned.held_paid;
        reserved := owned.held_trial + owned.held_paid;
        open_holds := owned.open_holds;
        held := least(p_wanted, available);
        placed := available >= p_minimum
            AND (p_max_open_holds IS NULL OR owned.open_holds < p_max_open_holds);
        IF owned.limited_keys > 0 THEN
            limits := metering_key_limits(p_key_id);
            key_room := metering_key_room(limits);
            key_reserved := limits.held_tokens;
            key_open_holds := limits.open_holds;
            key_max_open_holds := limits.concurrent_requests;
            key_cap := limits.cap_tokens;
            key_period := limits.cap_period;
            held := least(held, key_room);
            placed := placed
                AND coalesce(key_room >= p_minimum, true)
                AND (
                    p_max_open_holds IS NULL
                    OR coalesce(key_open_holds < key_max_open_holds + p_silent_of_key, true)
                );
        END IF;
        take_trial := least(held, free_trial);
        IF placed THEN
            UPDATE balances b
            SET held_trial = b.held_trial + take_trial,
                held_paid = b.held_paid + held - take_trial,
                open_holds = b.open_holds + 1
            WHERE b.user_id = p_user_id;
        END IF;
        IF placed AND limits.key_id IS NOT NULL THEN
            UPDATE key_limits l
            SET period_start = limits.period_start,
                used_tokens = limits.used_tokens,
                held_tokens = l.held_tokens + held,
                open_holds = l.open_holds + 1
            WHERE l.key_id = p_key_id;
        END IF;
    END IF;
    IF placed THEN
        INSERT INTO holds (
            request_id, user_id, key_id, held_trial, held_paid, endpoint, model, price_id
        )
        VALUES (
            p_request_id, p_user_id, p_key_id, take_trial, held - take_trial, p_endpoint, p_model,
            p_price_id
        );
    END IF;
    RETURN NEXT;
END $$;

-- Takes a cost first from what was held, then from what is free for account and key, and frees the
-- rest of the hold. Returns what it took and what can be spent now; nulls if there is no such account.
CREATE FUNCTION metering_take(
    hold holds, cost bigint, OUT from_trial bigint, OUT from_paid bigint, OUT balance bigint
)
LANGUAGE plpgsql AS $$
DECLARE
    owned balances%ROWTYPE;
    limits key_limits%ROWTYPE;
    beyond bigint;
    free_trial bigint;
    extra_trial bigint;
    charged bigint;
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
    IF owned.limited_keys > 0 THEN
        limits := metering_key_limits(hold.key_id);
        -- Of a period that has ended only what was held then can still be charged.
        beyond := CASE
            WHEN now() < limits.period_start THEN 0
            ELSE least(beyond, metering_key_room(limits))
        END;
    END IF;
    extra_trial := least(beyond, free_trial);
    from_trial := from_trial + extra_trial;
    from_paid := from_paid + least(beyond - extra_trial, owned.paid_tokens - owned.held_paid);
    charged := from_trial + from_paid;
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
    IF limits.key_id IS NOT NULL THEN
        UPDATE key_limits l
        SET period_start = limits.period_start,
            used_tokens =
                limits.used_tokens + CASE WHEN now() < limits.period_start THEN 0 ELSE charged END,
            held_tokens = l.held_tokens - hold.held_trial - hold.held_paid,
            open_holds = l.open_holds - 1
        WHERE l.key_id = limits.key_id;
    END IF;
END $$;

-- Charges the counts of a hold that has just left the state open, by the hold's price, and records
-- the event. What neither the hold nor free tokens cover stays uncharged. Counts of nothing are
-- recorded only on demand. No row if there is no such account.
CREATE OR REPLACE FUNCTION metering_charge(
    hold holds, p_outcome text, p_time_to_first_token_ms integer, p_duration_ms integer,
    p_record_nothing boolean
)
RETURNS TABLE (charged bigint, uncharged bigint, balance bigint)
LANGUAGE plpgsql AS $$
DECLARE
    cost bigint;
    from_trial bigint;
    from_paid bigint;
BEGIN
    SELECT metering_cost(
        p, hold.prompt_tokens, hold.cached_prompt_tokens, hold.completion_tokens
    ) INTO STRICT cost
    FROM prices p WHERE p.id = hold.price_id;
    from_trial := least(cost, hold.held_trial);
    from_paid := cost - from_trial;
    UPDATE balances b
    SET trial_tokens = b.trial_tokens - from_trial,
        paid_tokens = b.paid_tokens - from_paid,
        held_trial = b.held_trial - hold.held_trial,
        held_paid = b.held_paid - hold.held_paid,
        open_holds = b.open_holds - 1
    WHERE b.user_id = hold.user_id AND b.limited_keys = 0 AND from_paid <= hold.held_paid
    RETURNING b.paid_tokens - b.held_paid + CASE
        WHEN b.trial_expires_at > now() THEN b.trial_tokens - b.held_trial
        ELSE 0
    END INTO balance;
    IF NOT FOUND THEN
        SELECT * INTO from_trial, from_paid, balance FROM metering_take(hold, cost);
        IF balance IS NULL THEN
            RETURN;
        END IF;
    END IF;
    charged := from_trial + from_paid;
    uncharged := cost - charged;
    IF hold.prompt_tokens > 0 OR hold.completion_tokens > 0 OR p_record_nothing THEN
        INSERT INTO usage_events (
            request_id, user_id, key_id, endpoint, model, outcome,
            prompt_tokens, cached_prompt_tokens, completion_tokens,
            charged_trial, charged_paid, uncharged_tokens, balance_tokens,
            time_to_first_token_ms, duration_ms, price_id
        )
        VALUES (
            hold.request_id, hold.user_id, hold.key_id, hold.endpoint, hold.model, p_outcome,
            hold.prompt_tokens, hold.cached_prompt_tokens, hold.completion_tokens,
            from_trial, from_paid, uncharged, balance,
            p_time_to_first_token_ms, p_duration_ms, hold.price_id
        );
    END IF;
    RETURN NEXT;
END $$;

-- Ends an open hold at upstream's own counts; durable. No row when it is not open.
CREATE OR REPLACE FUNCTION metering_settle(
    p_request_id uuid, p_model text, p_outcome text, p_prompt_tokens integer,
    p_cached_prompt_tokens integer, p_completion_tokens integer,
    p_time_to_first_token_ms integer, p_duration_ms integer
)
RETURNS TABLE (charged bigint, uncharged bigint, balance bigint)
LANGUAGE plpgsql AS $$
DECLARE
    hold holds%ROWTYPE;
BEGIN
    DELETE FROM holds h
    WHERE h.request_id = p_request_id AND h.state = 'open'
    RETURNING * INTO hold;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    hold.model := p_model;
    hold.prompt_tokens := p_prompt_tokens;
    hold.cached_prompt_tokens := p_cached_prompt_tokens;
    hold.completion_tokens := p_completion_tokens;
    RETURN QUERY SELECT * FROM metering_charge(
        hold, p_outcome, p_time_to_first_token_ms, p_duration_ms, true
    );
END $$;

-- Settles many requests, of any accounts, in one transaction and so with one wait for the disk. A row
-- for each whose hold was open. All holds are locked before any balance, both in a fixed order, so
-- that batches do not wait for each other in a circle. Gives up, with nothing done, when somebody
-- else keeps a lock: then each is settled on its own, and nobody waits for another's account.
CREATE OR REPLACE FUNCTION metering_settle_many(
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
    FOR item IN
        WITH locked AS MATERIALIZED (
            SELECT h.request_id, h.user_id FROM holds h
            WHERE h.request_id = ANY (p_request_ids) AND h.state = 'open'
            ORDER BY h.request_id FOR UPDATE
        )
        SELECT l.request_id AS id, array_position(p_request_ids, l.request_id) AS n
        FROM locked l ORDER BY l.user_id, l.request_id
    LOOP
        SELECT c.* INTO charged, uncharged, balance
        FROM metering_settle(
            item.id, p_models[item.n], p_outcomes[item.n], p_prompt_tokens[item.n],
            p_cached_prompt_tokens[item.n], p_completion_tokens[item.n],
            p_time_to_first_token_ms[item.n], p_duration_ms[item.n]
        ) AS c;
        IF FOUND THEN
            request_id := item.id;
            RETURN NEXT;
        END IF;
    END LOOP;
END $$;
