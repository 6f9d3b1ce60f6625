-- Charges by prices. A hold has the version of the price that is charged when it ends, so that a new
-- one changes nothing for requests that run.
--
-- Placing a hold gets one more argument. The function without it stays for the release before, whose
-- holds have version 1: it charges what was counted.


-- The charge for counts, in tokens: rounded up once. A price is in hundredths of a token.
CREATE FUNCTION metering_cost(price prices, prompt integer, cached integer, completion integer)
RETURNS bigint
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT (
        (prompt - cached)::bigint * price.input + cached::bigint * price.cached
        + completion::bigint * price.output + 99
    ) / 100
$$;

-- A price that requests were charged by has to stay, or their charges could not be recomputed: only
-- its end is entered, once.
CREATE FUNCTION prices_stay() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'UPDATE' THEN
        IF OLD.valid_until IS NULL
           AND (NEW.id, NEW.model, NEW.input, NEW.cached, NEW.output, NEW.valid_from)
             = (OLD.id, OLD.model, OLD.input, OLD.cached, OLD.output, OLD.valid_from)
        THEN
            RETURN NEW;
        END IF;
    END IF;
    RAISE EXCEPTION 'prices cannot be changed or deleted, only ended';
END $$;

CREATE TRIGGER prices_stay BEFORE UPDATE OR DELETE ON prices
FOR EACH ROW EXECUTE FUNCTION prices_stay();

CREATE TRIGGER prices_are_not_truncated BEFORE TRUNCATE ON prices
FOR EACH STATEMENT EXECUTE FUNCTION prices_stay();

-- Holds what is wanted, or what is left if that is at least the minimum. One row, none if there is
-- no such account; `placed` says whether it did, the rest is what the account had before.
CREATE FUNCTION metering_place_hold(
    p_request_id uuid, p_user_id bigint, p_key_id bigint, p_endpoint text, p_model text,
    p_wanted bigint, p_minimum bigint, p_max_open_holds integer, p_price_id integer
)
RETURNS TABLE (
    placed boolean, held bigint, available bigint, reserved bigint, open_holds integer
)
LANGUAGE plpgsql AS $$
DECLARE
    owned balances%ROWTYPE;
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
    placed := available >= p_minimum AND owned.open_holds < p_max_open_holds;
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
    END IF;
    RETURN NEXT;
END $$;

-- Charges the counts of a hold that has just left the state open, by the hold's price, frees the
-- rest, and records the event. The cost is taken first from what was held, then from what is free;
-- what neither covers stays uncharged. Counts of nothing are recorded only on demand.
CREATE OR REPLACE FUNCTION metering_charge(
    hold holds, p_outcome text, p_time_to_first_token_ms integer, p_duration_ms integer,
    p_record_nothing boolean
)
RETURNS TABLE (charged bigint, uncharged bigint, balance bigint)
LANGUAGE plpgsql AS $$
DECLARE
    owned balances%ROWTYPE;
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
