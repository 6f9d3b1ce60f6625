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
        prompt_tokens = CASE WHEN h.completion_tokens > 0 THEN h.prompt_tokens ELSE 0 END
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
