-- Keys with limits of their own: tokens in a period, and requests at a time.
--
-- Each such key has a row in key_limits, and its account's balance says that there are some: an account
-- without them pays nothing. The row is read and changed only under the lock of the balance. Holds
-- take their part of a limit when they are placed or grow, so a key never spends more.
--
-- The functions of earlier releases stay, as calls of the new ones.


-- The start of the day, week (on Monday), month or eternity that a moment belongs to, in UTC.
CREATE FUNCTION key_limits_period(p_period text, p_moment timestamptz) RETURNS timestamptz
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT CASE
        WHEN p_period IN ('day', 'week', 'month') THEN date_trunc(p_period, p_moment, 'UTC')
        ELSE 'epoch'::timestamptz
    END
$$;

-- The limits of a key as of now, with nothing used in a period that has just begun; nulls for a key
-- without limits. A transaction that waited for the lock may be of an earlier period than the row.
CREATE FUNCTION metering_key_limits(p_key_id bigint) RETURNS key_limits
LANGUAGE plpgsql STABLE AS $$
DECLARE
    limits key_limits%ROWTYPE;
    started timestamptz;
BEGIN
    SELECT * INTO limits FROM key_limits l WHERE l.key_id = p_key_id;
    started := key_limits_period(limits.cap_period, now());
    IF started > limits.period_start THEN
        limits.period_start := started;
        limits.used_tokens := 0;
    END IF;
    RETURN limits;
END $$;

-- The tokens that a key can still take; null without a cap.
CREATE FUNCTION metering_key_room(limits key_limits) RETURNS bigint
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE
        WHEN limits.cap_tokens IS NOT NULL
        THEN greatest(limits.cap_tokens - limits.used_tokens - limits.held_tokens, 0)
    END
$$;

-- Holds what is wanted, or what is left if that is at least the minimum. One row, none if there is
-- no such account; `placed` says whether it did, the rest is what account and key had before. Without
-- a maximum of open holds the key's own does not count either; silent holds of the key are allowed
-- beyond its own.
CREATE FUNCTION metering_place_hold(
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
    IF placed THEN
        take_trial := least(held, free_trial);
        UPDATE balances b
        SET held_trial = b.held_trial + take_trial,
            held_paid = b.held_paid + held - take_trial,
            open_holds = b.open_holds + 1
        WHERE b.user_id = p_user_id;
        INSERT INTO holds (
            request_id, user_id, key_id, held_trial, held_paid, endpoint, model, price_id
        )
        VALUES (
            p_request_id, p_user_id, p_key_id, take_trial, held - take_trial, p_endpoint, p_model,
            p_price_id
        );
        IF limits.key_id IS NOT NULL THEN
            UPDATE key_limits l
            SET period_start = limits.period_start,
                used_tokens = limits.used_tokens,
                held_tokens = l.held_tokens + held,
                open_holds = l.open_holds + 1
            WHERE l.key_id = p_key_id;
        END IF;
    END IF;
    RETURN NEXT;
END $$;

CREATE OR REPLACE FUNCTION metering_place_hold(
    p_request_id uuid, p_user_id bigint, p_key_id bigint, p_endpoint text, p_model text,
    p_wanted bigint, p_minimum bigint, p_max_open_holds integer, p_price_id integer
)
RETURNS TABLE (
    placed boolean, held bigint, available bigint, reserved bigint, open_holds integer
)
LANGUAGE sql AS $$
    SELECT p.placed, p.held, p.available, p.reserved, p.open_holds
    FROM metering_place_hold(
        p_request_id, p_user_id, p_key_id, p_endpoint, p_model, p_wanted, p_minimum,
        p_max_open_holds, p_price_id, 0
    ) AS p
$$;

CREATE OR REPLACE FUNCTION metering_place_hold(
    p_request_id uuid, p_user_id bigint, p_key_id bigint, p_endpoint text, p_model text,
    p_wanted bigint, p_minimum bigint, p_max_open_holds integer
)
RETURNS TABLE (
    placed boolean, held bigint, available bigint, reserved bigint, open_holds integer
)
LANGUAGE sql AS $$
    SELECT p.placed, p.held, p.available, p.reserved, p.open_holds
    FROM metering_place_hold(
        p_request_id, p_user_id, p_key_id, p_endpoint, p_model, p_wanted, p_minimum,
        p_max_open_holds, 1, 0
    ) AS p
$$;

-- Moves an open hold towards a total, up as far as balance and key reach or down (paid is freed
-- first). One row with what it holds then, and whether the key let it have less than the balance
-- would; none when it is not open.
CREATE FUNCTION metering_move_hold(p_request_id uuid, p_target bigint)
RETURNS TABLE (held bigint, stopped_by_key boolean)
LANGUAGE plpgsql AS $$
DECLARE
    hold holds%ROWTYPE;
    owned balances%ROWTYPE;
    limits key_limits%ROWTYPE;
    more bigint;
    less bigint;
    room bigint;
    trial_change bigint;
    paid_change bigint;
    free_trial bigint;
BEGIN
    PERFORM set_config('synchronous_commit', 'off', true);
    SELECT * INTO hold FROM holds h
    WHERE h.request_id = p_request_id AND h.state = 'open' FOR UPDATE;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    SELECT * INTO owned FROM balances b WHERE b.user_id = hold.user_id FOR UPDATE;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    free_trial := CASE
        WHEN owned.trial_expires_at > now() THEN owned.trial_tokens - owned.held_trial
        ELSE 0
    END;
    more := greatest(p_target - hold.held_trial - hold.held_paid, 0);
    less := greatest(hold.held_trial + hold.held_paid - p_target, 0);
    stopped_by_key := false;
    IF owned.limited_keys > 0 THEN
        limits := metering_key_limits(hold.key_id);
        room := metering_key_room(limits);
        stopped_by_key := coalesce(
            room < least(more, free_trial + owned.paid_tokens - owned.held_paid), false
        );
        more := least(more, room);
    END IF;
    trial_change := least(more, free_trial);
    paid_change := least(more - trial_change, owned.paid_tokens - owned.held_paid)
        - least(less, hold.held_paid);
    trial_change := trial_change - (less - least(less, hold.held_paid));
    UPDATE balances b
    SET held_trial = b.held_trial + trial_change, held_paid = b.held_paid + paid_change
    WHERE b.user_id = hold.user_id;
    UPDATE holds h
    SET held_trial = h.held_trial + trial_change, held_paid = h.held_paid + paid_change
    WHERE h.request_id = p_request_id;
    IF limits.key_id IS NOT NULL THEN
        UPDATE key_limits l
        SET period_start = limits.period_start,
            used_tokens = limits.used_tokens,
            held_tokens = l.held_tokens + trial_change + paid_change
        WHERE l.key_id = limits.key_id;
    END IF;
    held := hold.held_trial + hold.held_paid + trial_change + paid_change;
    RETURN NEXT;
END $$;

CREATE OR REPLACE FUNCTION metering_adjust_hold(p_request_id uuid, p_target bigint) RETURNS bigint
LANGUAGE sql AS $$
    SELECT m.held FROM metering_move_hold(p_request_id, p_target) AS m
$$;

-- Charges the counts of a hold that has just left the state open, by the hold's price, frees the
-- rest, and records the event. The cost is taken first from what was held, then from what is free for
-- account and key; what neither covers stays uncharged. Counts of nothing are recorded only on demand.
CREATE OR REPLACE FUNCTION metering_charge(
    hold holds, p_outcome text, p_time_to_first_token_ms integer, p_duration_ms integer,
    p_record_nothing boolean
)
RETURNS TABLE (charged bigint, uncharged bigint, balance bigint)
LANGUAGE plpgsql AS $$
DECLARE
    owned balances%ROWTYPE;
    limits key_limits%ROWTYPE;
    cost bigint;
    from_trial bigint;
    from_paid bigint;
    beyond bigint;
    free_trial bigint;
    extra_trial bigint;
BEGIN
    SELECT metering_cost(
        p, hold.prompt_tokens, hold.cached_prompt_tokens, hold.completion_tokens
    ) INTO STRICT cost
    FROM prices p WHERE p.id = hold.price_id;
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
    IF limits.key_id IS NOT NULL THEN
        UPDATE key_limits l
        SET period_start = limits.period_start,
            used_tokens =
                limits.used_tokens + CASE WHEN now() < limits.period_start THEN 0 ELSE charged END,
            held_tokens = l.held_tokens - hold.held_trial - hold.held_paid,
            open_holds = l.open_holds - 1
        WHERE l.key_id = limits.key_id;
    END IF;
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
