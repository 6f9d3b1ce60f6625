from promptly.gateway import probe_pauses


def test_pauses_grow_up_to_a_minute_and_differ() -> None:
    shortest, longest = [], []
    for number in range(1, 12):
        pauses = [probe_pauses.after_failures(number, 5.0) for _ in range(200)]
        assert len(set(pauses)) > 100
        shortest.append(min(pauses))
        longest.append(max(pauses))
    assert shortest[0] >= 3.75 and longest[0] <= 6.25
    assert shortest[1] >= 7.5 and longest[1] <= 12.5
    assert longest[-1] <= probe_pauses.LONGEST_SECONDS < 2 * shortest[-1]
    assert probe_pauses.after_failures(10_000, 5.0) <= probe_pauses.LONGEST_SECONDS


def test_a_server_that_loads_its_model_is_asked_soon() -> None:
    pauses = [probe_pauses.while_loading() for _ in range(200)]
    assert min(pauses) >= 1.5 and max(pauses) <= 2.5
