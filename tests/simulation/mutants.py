"""Scripts with one mistake each, which the simulation has to find."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from graflow_celery.record.scripts import source
from tests.simulation.simulate import virtual


@dataclass(frozen=True)
class Mutant:
    """`old` becomes `new` in one script (or in all, when it is in lib.lua)."""

    name: str
    script: str
    old: str
    new: str

    def load(self) -> Callable[[str], str]:
        if self.old not in source(self.script):
            raise AssertionError(f"mutant {self.name!r} does not fit to {self.script}.lua any more")

        def mutated(name: str) -> str:
            return virtual(name).replace(self.old, self.new)

        return mutated


MUTANTS = [
    Mutant(
        "a long value that the run has taken over still expires",
        "complete",
        "redis.call('PERSIST', BLOB .. name)",
        "",
    ),
    Mutant(
        "a long value that has expired is recorded all the same",
        "complete",
        "elseif not are_there(names) then",
        "elseif false then",
    ),
    Mutant(
        "a report that is repeated throws its long values away",
        "complete",
        "names[1] ~= blobs_of_outcome(outcome)[1]",
        "true",
    ),
    Mutant("long values stay for ever", "complete", "each_blob('PEXPIRE', header.result_ttl)", ""),
    Mutant("a retry lets its long values expire", "reopen", "each_blob('PERSIST')", ""),
    Mutant(
        "the short way of one member forgets long values",
        "complete",
        "ARGV[4] == 'SUCCEEDED' and string.byte(ARGV[5], 1) ~= 1",
        "ARGV[4] == 'SUCCEEDED'",
    ),
    Mutant(
        "a member alone is granted although it has an owner",
        "claim",
        " and not redis.call('HGET', claims, index) then",
        " then",
    ),
    Mutant(
        "a member alone is granted although it has an outcome",
        "claim",
        "and redis.call('ZSCORE', due, index) and",
        "and",
    ),
    Mutant("a claim of one member has no lease", "claim", "redis.call('ZADD', due, ends, index)", ""),
    Mutant("a claim of one member forgets the limit", "claim", "in_flight == '0' and not deadline", "not deadline"),
    Mutant("a claim of one member is not looked for", "claim", "if tonumber(look) <= ends and", "if"),
    Mutant(
        "a report of one member is not compared with its lease",
        "complete",
        "and of_attempt == attempt and by == owner then",
        "then",
    ),
    Mutant("a report of the last member ends nothing", "complete", "and recorded < tonumber(n)", ""),
    Mutant(
        "a member alone stays due after its outcome", "complete", "redis.call('ZREM', run .. 'deadlines', index)", ""
    ),
    Mutant("a member alone is counted twice", "complete", "(succeeded or 0) + 1", "(succeeded or 0) + 2"),
    Mutant("the last outcome wins", "complete", "local outcome = not claims[i] and", "local outcome = false and"),
    Mutant(
        "an unclaimed member is charged an attempt",
        "sweep",
        "claim.waits = math.min(claim.waits + 1, MAX_DOUBLINGS)",
        "claim.waits = math.min(claim.waits + 1, MAX_DOUBLINGS) claim.attempt = claim.attempt + 1",
    ),
    Mutant(
        "the wait of an unclaimed member is not doubled",
        "sweep",
        "time + header.queue_wait * 2 ^ claim.waits",
        "time + header.queue_wait",
    ),
    Mutant(
        "a report is not compared with its lease",
        "complete",
        "local is_late = claim.attempt ~= attempt or claim.owner ~= owner",
        "local is_late = false",
    ),
    Mutant(
        "a report of an attempt that never was is taken",
        "complete",
        " or attempt > claim.attempt then",
        " then",
    ),
    Mutant(
        "a repeated report is refused",
        "complete",
        "if tonumber(of_attempt) == attempt and by == owner then",
        "if false then",
    ),
    Mutant("nothing expires at the end", "complete", "redis.call('PEXPIRE', key, header.result_ttl)", ""),
    Mutant(
        "DONE is told twice",
        "complete",
        "if header.state ~= 'RUNNING' or header.recorded < header.n then return false end",
        "if header.recorded < header.n then return false end",
    ),
    Mutant(
        "DONE comes one member too early",
        "complete",
        "if header.state ~= 'RUNNING' or header.recorded < header.n then return false end",
        "if header.state ~= 'RUNNING' or header.recorded < header.n - 1 then return false end",
    ),
    Mutant("a member stays due after its outcome", "complete", "each('ZREM', DUE, indices)", ""),
    Mutant("a claim is not taken from its owner at the end", "complete", "each('HDEL', CLAIMS, indices)", ""),
    Mutant(
        "a slot is not given back",
        "complete",
        "if is_owned(row.claim) then header.running = header.running - 1 end",
        "",
    ),
    Mutant(
        "a slot is given back that nobody had",
        "complete",
        "if is_owned(row.claim) then header.running = header.running - 1 end",
        "header.running = header.running - 1",
    ),
    Mutant("a member of another is granted", "claim", "(is_owned(claim) and not is_mine) or", "false or"),
    Mutant("a recorded member is granted", "claim", "not scores[i] or", ""),
    Mutant("a retry is granted before it is due", "claim", "or is_early or", "or"),
    Mutant("a repeated claim gets another attempt", "claim", "    if not is_mine then\n", "    if true then\n"),
    Mutant(
        "a suspect runs in company",
        "claim",
        "elseif alone or (is_suspect and #taken > 0) or (limit > 0 and #taken >= limit) then",
        "elseif limit > 0 and #taken >= limit then",
    ),
    Mutant("more in flight than allowed", "claim", "and header.running >= header.max_in_flight then", "and false then"),
    Mutant("a claim has no lease", "claim", "leases[#leases + 1] = time + header.lease", "leases[#leases + 1] = time"),
    Mutant("a claim does not wake the sweeper", "claim", "look_by(header, time + header.lease)", ""),
    Mutant("the deadline does not stop claims", "claim", "(remaining == 0 or header.cut == 1)", "header.cut == 1"),
    Mutant("a beat extends nothing", "beat", "local due = now() + header.lease", "local due = now()"),
    Mutant(
        "a beat of anybody extends",
        "beat",
        "if claim.attempt == attempt and claim.owner == owner then keep(ARGV[i])",
        "if is_owned(claim) then keep(ARGV[i])",
    ),
    Mutant("a lost member is never LOST", "sweep", "if claim.losses >= limits[i] then", "if false then"),
    Mutant(
        "a lost member is LOST one attempt too early",
        "sweep",
        "if claim.losses >= limits[i] then",
        "if claim.losses >= limits[i] - 1 then",
    ),
    Mutant("a lost member is not published", "sweep", "      publish(lost, index)\n", ""),
    Mutant("a lost member keeps its owner", "sweep", "queue_again(claim, '-', time)\n      if", "if"),
    Mutant("a loss is not charged", "sweep", "claim.losses = claim.losses + 1", ""),
    Mutant(
        "no lease lives on after a standstill",
        "sweep",
        "if is_owned(claim) and claim.waits == 0 and time < grace then",
        "if false then",
    ),
    Mutant(
        "the sweeper forgets the run",
        "sweep",
        "redis.call('ZADD', OPEN, look, header.run)",
        "redis.call('ZREM', OPEN, header.run)",
    ),
    Mutant("the sweeper ignores the deadline", "sweep", "header.deadline > 0 and time >=", "false and time >="),
    Mutant("members of others are abandoned", "abandon", "if claim.owner == owner then", "if is_owned(claim) then"),
    Mutant("a member of a dead process keeps its lease", "abandon", "claim.waits = 1", "claim.waits = 0"),
    Mutant("nobody tells who is LOST", "sweep", "given_up[#given_up + 1] = index", ""),
    Mutant("how a process died is not kept", "abandon", "each('HSET', HEADER, deaths)", ""),
    Mutant("a dead process does not wake the sweeper", "abandon", "then look_by(header, time) end", "then end"),
    Mutant("a retry of a lost lease is taken", "retry", "if claim.owner ~= owner then return {{}, {}} end", ""),
    Mutant(
        "a repeated retry is counted again",
        "retry",
        "if claim.owner == '@' then return {{index}, {}} end",
        "owner = claim.owner",
    ),
    Mutant("a retry is not counted", "retry", "claim.retries + 1", "claim.retries"),
    Mutant(
        "members of others are released", "release", "elseif claim.owner == owner then", "elseif is_owned(claim) then"
    ),
    Mutant("a release does not wake the sweeper", "release", "if #scores > 0 then look_by(header, due) end", ""),
    Mutant("a retry does not wake the sweeper", "retry", "\nlook_by(header, due)\n", "\n"),
    Mutant("a released member keeps its attempt", "release", "claim.attempt - 1", "claim.attempt"),
    Mutant("an expedited member keeps its long wait", "expedite", "and claim.waits > 0 then", "and false then"),
    Mutant(
        "what was claimed in the wrong time is found late", "expedite", "math.min(score, time + header.lease)", "score"
    ),
    Mutant(
        "what is retried in the wrong time waits on",
        "expedite",
        "claim.queued > time and time + score - claim.queued or",
        "",
    ),
    Mutant("a run is looked after for ever", "complete", "redis.call('ZREM', OPEN, header.run)", ""),
    Mutant("another manifest attaches", "open", "if header.digest ~= digest then", "if false then"),
    Mutant("opening again starts afresh", "open", "if header.state ~= 'OPENING' then", "if false then"),
    Mutant("unclaimed members are never due", "open", "each('ZADD', DUE, scores)", ""),
    Mutant("a cancel leaves members open", "cancel", "record(header, rows, time)\n  for _, b in", "for _, b in"),
    Mutant("a cancelled group is done", "cancel", "is_cancelled and 'CANCELLED' or", "is_cancelled and 'DONE' or"),
    Mutant(
        "the continuation is not offered", "complete", "redis.call('ZADD', DUE, time + header.queue_wait, header.n)", ""
    ),
    Mutant(
        "an attempt of an earlier round reports",
        "complete",
        "attempt <= tonumber(floors[i] or 0) or",
        "attempt < 1 or",
    ),
    Mutant(
        "what was granted after a late report may report in the next round",
        "reopen",
        "math.max(row.attempt, tonumber(granted or 0))",
        "row.attempt",
    ),
    Mutant(
        "a repeated retry of a run opens it again",
        "reopen",
        "if header['reopened:' .. token] == 1 then",
        "if false then",
    ),
    Mutant("a run is retried before its end", "reopen", "if header.closed == 0 then return 'OPEN' end", ""),
    Mutant("a cancelled run is retried", "reopen", "if header.state == 'CANCELLED' then", "if false then"),
    Mutant(
        "what succeeded runs again",
        "reopen",
        "if not (has_succeeded(found) or is_left_out) then",
        "if not is_left_out then",
    ),
    Mutant("attempts begin anew in another round", "reopen", "attempt = floor, losses", "attempt = 0, losses"),
    Mutant("what failed keeps its outcome", "forget", "each('HDEL', OUTCOMES, stale)", ""),
    Mutant("what failed keeps its long values", "forget", "drop_blobs(blobs_of_outcome(texts[i]))", "local _"),
    Mutant(
        "a slice of what failed is left out", "reopen", "more('members ' .. after,", "more('members ' .. after + 1,"
    ),
    Mutant("floors of earlier rounds are forgotten", "reopen", "local after = floors_from(place)", "local after"),
    Mutant("what failed keeps its place in the order", "reopen", "local is_open = again[i] or", "local is_open ="),
    Mutant("what failed is still counted", "reopen", "      count(row.state, 1)\n", ""),
    Mutant(
        "nothing is due in another round",
        "reopen",
        "each('ZADD', ANEW[DUE], scores)",
        "",
    ),
    Mutant("a reopened run is not looked after", "reopen", "look_by(header, look)", ""),
    Mutant("the time of a group does not begin anew", "reopen", "header.deadline = time + header.timeout", ""),
    Mutant("a group that ran out of time has failed for ever", "reopen", "'RUNNING', 0, 0\n", "'RUNNING', 0, 1\n"),
    Mutant(
        "a continuation that failed alone is not offered",
        "reopen",
        "header.n - header.recorded)\nsettle(header, time)",
        "0)",
    ),
    Mutant(
        "the continuation does not follow again",
        "reopen",
        "if has_others or not has_succeeded(text) then",
        "if not has_succeeded(text) then",
    ),
    Mutant("a reopened run expires", "reopen", "redis.call('PERSIST', key)", ""),
    Mutant(
        "enough is one too few", "complete", "header.SUCCEEDED >= header.enough", "header.SUCCEEDED > header.enough"
    ),
    Mutant(
        "the rest runs although enough have succeeded",
        "complete",
        "has_more = select(2, leave_out(header, time)) end",
        "local _ end",
    ),
    Mutant("a report alone leaves nothing out", "complete", "told == '1' and not enough", "told == '1'"),
    Mutant(
        "what runs is left out after a failure",
        "complete",
        "(has_failed(header) and is_free(claim)",
        "(has_failed(header)",
    ),
    Mutant("what is being retried is left out", "complete", "and claim.retries == 0)", ")"),
    Mutant("a failure of an earlier round leaves members out", "reopen", "header.failed_before = ", "local _ = "),
    Mutant(
        "what was lost is published after a failure",
        "sweep",
        "without(gone, lost), without(gone, waiting)",
        "lost, waiting",
    ),
    Mutant(
        "what will be left out is claimed in company",
        "claim",
        "alone = is_suspect or is_each_alone",
        "alone = is_suspect",
    ),
    Mutant("a reader skips what came", "read", "LRANGE', ORDER, position,", "LRANGE', ORDER, position + 1,"),
    Mutant("the order forgets", "complete", "each('RPUSH', ORDER, indices)", ""),
]
