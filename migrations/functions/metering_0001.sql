-- The steps of metering, each one call and, in autocommit, one transaction.
--
-- Functions, because PostgreSQL keeps their plans for the life of a connection: planning such
-- statements anew costs more than running them, and prepared statements do not pass a pooler.
--
-- Every function locks first the hold, then the balance, computes on the locked rows and changes
-- them. Locks are always taken in this order, so no two steps wait for each other. What an account
-- can spend freely is its free trial (an expired trial is none) and its free paid tokens; trial is
-- taken before paid everywhere. The CHECK constraints of the tables stand behind all of it.
--
-- Placing and moving holds does not wait for the disk: a lost hold costs nothing, the settlement
-- still charges. Settlements wait, and share that wait: as many as come at a time run as one call.


-- Holds what is wanted, or what is left if that is at least the minimum. One row, none if there is
-- no such account; `placed` says whether it did, the rest is what the account had before.
CREATE FUNCTION metering_place_hold(
    p_request_id uuid, p_user_id bigint, p_key_id bigint, p_endpoint text, p_model text,
    p_wanted bigint, p_minimum bigint, p_max_open_holds integer
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
        INSERT INTO holds (request_id, user_id, key_id, held_trial, held_paid, endpoint, model)
        VALUES (
            p_request_id, p_user_id, p_key_id, take_trial, held - take_trial, p_endpoint, p_model
        );
    END IF;
    RETURN NEXT;
END $$;

-- Moves an open hold towards a total, up as far as the balance reaches or down (paid is freed
-- first), and returns what it holds then; null when it is not open.
CREATE FUNCTION metering_adjust_hold(p_request_id uuid, p_target bigint) RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE
    hold holds%ROWTYPE;
    owned balances%ROWTYPE;
    more bigint;
    less bigint;
    trial_change bigint;
    paid_change bigint;
    free_trial bigint;
BEGIN
    PERFORM set_config('synchronous_commit', 'off', true);
    SELECT * INTO hold FROM holds h
    WHERE h.request_id = p_request_id AND h.state = 'open' FOR UPDATE;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    SELECT * INTO owned FROM balances b WHERE b.user_id = hold.user_id FOR UPDATE;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    free_trial := CASE
        WHEN owned.trial_expires_at > now() THEN owned.trial_tokens - owned.held_trial
        ELSE 0
    END;
    more := greatest(p_target - hold.held_trial - hold.held_paid, 0);
    less := greatest(hold.held_trial + hold.held_paid - p_target, 0);
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
    RETURN hold.held_trial + hold.held_paid + trial_change + paid_change;
END $$;

-- Charges the counts of a hold that has just left the state open, frees the rest, and records the
-- event. The cost is taken first from what was held, then from what is free; what neither covers
-- stays uncharged. A cost of nothing is recorded only on demand.
CREATE FUNCTION metering_charge(
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
            prompt_tokens, completion_tokens,
            charged_trial, charged_paid, uncharged_tokens, balance_tokens,
            time_to_first_token_ms, duration_ms
        )
        VALUES (
            hold.request_id, hold.user_id, hold.key_id, hold.endpoint, hold.model, p_outcome,
            hold.prompt_tokens, hold.completion_tokens,
            from_trial, from_paid, uncharged, balance,
            p_time_to_first_token_ms, p_duration_ms
        );
    END IF;
    RETURN NEXT;
END $$;

-- Ends an open hold at upstream's own counts; durable. No row when it is not open.
CREATE FUNCTION metering_settle(
    p_request_id uuid, p_model text, p_outcome text, p_prompt_tokens integer,
    p_completion_tokens integer, p_time_to_first_token_ms integer, p_duration_ms integer
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
    p_completion_tokens integer[], p_time_to_first_token_ms integer[], p_duration_ms integer[]
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
            p_request_ids, p_models, p_outcomes, p_prompt_tokens,
            p_completion_tokens, p_time_to_first_token_ms, p_duration_ms
        ) AS s (
            id, model, outcome, prompt_tokens,
            completion_tokens, time_to_first_token_ms, duration_ms
        )
        JOIN holds h ON h.request_id = s.id
        ORDER BY h.user_id, s.id
    LOOP
        RETURN QUERY SELECT item.id, c.* FROM metering_settle(
            item.id, item.model, item.outcome, item.prompt_tokens,
            item.completion_tokens, item.time_to_first_token_ms, item.duration_ms
        ) AS c;
    END LOOP;
END $$;

-- Ends an open hold whose process has been silent for so long at its last checkpoint. No row when
-- it has ended or lives after all. A hold at which nothing had happened leaves no event.
CREATE FUNCTION metering_recover(p_request_id uuid, p_silent_seconds double precision)
RETURNS TABLE (user_id bigint, charged bigint)
LANGUAGE plpgsql AS $$
DECLARE
    hold holds%ROWTYPE;
BEGIN
    UPDATE holds h
    SET state = 'recovered'
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
