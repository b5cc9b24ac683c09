"""Stages of units: each begins when all units of the one before are made."""

from random import Random

from postmean.fleet.staged_units import StagedUnits


def test_no_unit_is_taken_before_all_of_earlier_stages_are_made():
    for seed in range(50):
        random = Random(seed)
        stages = [range(0, 7), [], range(7, 9), range(9, 14)]
        backlog, making, made = StagedUnits(stages), [], []
        while not backlog.is_over() or making:
            if making and (random.random() < 0.5 or not backlog.takeable(1)):
                unit = making.pop(random.randrange(len(making)))
                if random.random() < 0.3:
                    backlog.put_back(unit)
                else:
                    made.append(unit)
                    backlog.made(unit)
            else:
                unit = backlog.take()
                assert unit is not None
                assert all(set(stage) <= set(made) for stage in stages if stage and max(stage) < unit)
                making.append(unit)
            assert len(backlog) + len(making) + len(made) == 14
            assert backlog.takeable(3) <= 3
        assert sorted(made) == list(range(14)) and backlog.take() is None


def test_a_unit_that_is_given_up_ends_the_later_stages_alone():
    backlog = StagedUnits([[0, 1, 2], [3]])
    assert [backlog.take(), backlog.take()] == [0, 1]
    backlog.given_up(0)
    assert len(backlog) == 1 and backlog.take() == 2
    backlog.made(1)
    backlog.put_back(2)
    assert backlog.take() == 2
    backlog.made(2)
    assert backlog.is_over() and backlog.take() is None
    assert StagedUnits([]).is_over() and StagedUnits([[], []]).take() is None
