"""Scripts with one mistake each in what they do with blocks, which random deliveries have to find."""

from __future__ import annotations

from tests.simulation.mutants import Mutant

_THAW = "thaw_for(header, indices)\n"

BLOCK_MUTANTS = [
    # thawing
    Mutant("a claim does not thaw", "claim", _THAW + "local scores", "local scores"),
    Mutant("a report does not thaw", "complete", _THAW + "local claims", "local claims"),
    Mutant("a retry does not thaw", "retry", "thaw_for(header, {index})\n", ""),
    Mutant("a dead process does not thaw", "abandon", _THAW + "local claims", "local claims"),
    Mutant("what is restored does not thaw", "restore", _THAW + "local scores", "local scores"),
    Mutant("a beat of a member does not thaw", "beat", "thaw_for(header, singles)\n", ""),
    Mutant("a release of a part does not thaw", "release", "  thaw_for(header, single)\n  return", "  return"),
    Mutant("a lost block is not thawed", "sweep", "        thaw(header, b)\n        for", "        for"),
    Mutant(
        "thawed members have no claim",
        "complete",
        "  each('HSET', CLAIMS, claims)\n  each('ZADD', DUE, scores)\n  redis",
        "  each('ZADD', DUE, scores)\n  redis",
    ),
    Mutant(
        "thawed members are not due",
        "complete",
        "  each('ZADD', DUE, scores)\n  redis.call('ZREM', DUE, 'b' .. b)",
        "  redis.call('ZREM', DUE, 'b' .. b)",
    ),
    Mutant(
        "a thawed block stays due",
        "complete",
        "  redis.call('ZREM', DUE, 'b' .. b)\n  redis.call('HSET', BLOCKS, b, 't')",
        "  redis.call('HSET', BLOCKS, b, 't')",
    ),
    Mutant(
        "a thawed block stays whole",
        "complete",
        "  redis.call('HSET', BLOCKS, b, 't')\nend\n\n-- Thaw",
        "end\n\n-- Thaw",
    ),
    Mutant(
        "the last member of a block is not thawed",
        "complete",
        "  for index = first, last do\n    scores",
        "  for index = first, last - 1 do\n    scores",
    ),
    Mutant(
        "thawed members begin with no wait behind them",
        "claim",
        "block.attempt, block.waits, block.queued, block.since, block.owner)",
        "block.attempt, 0, block.queued, block.since, block.owner)",
    ),
    Mutant(
        "thawed members forget since when they wait",
        "claim",
        "block.attempt, block.waits, block.queued, block.since, block.owner)",
        "block.attempt, block.waits, 0, block.since, block.owner)",
    ),
    Mutant(
        "a recorded block is thawed",
        "complete",
        "if block.kind ~= 'o' and block.kind ~= 'c' then return end",
        "if block.kind == 't' then return end",
    ),
    # freezing: claims and reports of whole blocks
    Mutant(
        "a block of another is granted",
        "claim_blocks",
        "(block.kind == 'o' or is_mine) then",
        "(block.kind == 'o' or block.kind == 'c') then",
    ),
    Mutant(
        "a recorded block is granted", "claim_blocks", "(block.kind == 'o' or is_mine) then", "block.kind ~= 't' then"
    ),
    Mutant(
        "a thawed block is granted",
        "claim_blocks",
        "(block.kind == 'o' or is_mine) then",
        "(block.kind == 'o' or block.kind == 't' or is_mine) then",
    ),
    Mutant(
        "a part of a block is granted whole", "claim_blocks", "at == first and last >= final and", "last >= first and"
    ),
    Mutant(
        "a repeated claim of a block counts again", "claim_blocks", "  if block.kind == 'o' then\n", "  if true then\n"
    ),
    Mutant("a claimed block has no lease", "claim_blocks", "each('ZADD', DUE, leases)\n", ""),
    Mutant("blocks are granted over a limit", "claim_blocks", " and header.max_in_flight == 0", ""),
    Mutant(
        "suspects are granted in blocks",
        "claim_blocks",
        " and header.own_attempts == 0\n  and header.max_attempts ~= 1",
        "",
    ),
    Mutant(
        "what may be left out is granted in blocks",
        "claim_blocks",
        " and header.enough == 0 and header.fail_fast == 0",
        "",
    ),
    Mutant("blocks are granted after the deadline", "claim_blocks", " and remaining ~= 0", ""),
    Mutant(
        "thawed members are not left to be claimed",
        "claim_blocks",
        "block.kind == 't' or block.kind == 'o' or",
        "block.kind == 'o' or",
    ),
    Mutant(
        "members of a page that run again are not left to be claimed",
        "claim_blocks",
        " or header.round > 0 then",
        " then",
    ),
    Mutant(
        "a claim of a block counts one execution",
        "claim_blocks",
        "header.executions + last - first + 1",
        "header.executions + 1",
    ),
    Mutant(
        "a claim of a block takes one slot", "claim_blocks", "header.running + last - first + 1", "header.running + 1"
    ),
    Mutant(
        "a report of a block is not compared with its lease",
        "complete_blocks",
        "if block.kind == 'c' and is_mine then",
        "if block.kind == 'c' then",
    ),
    Mutant(
        "a report of a block that nobody has is taken",
        "complete_blocks",
        "if block.kind == 'c' and is_mine then",
        "if (block.kind == 'c' and is_mine) or block.kind == 'o' then",
    ),
    Mutant(
        "a block that was thawed is recorded whole",
        "complete_blocks",
        "if block.kind == 'c' and is_mine then",
        "if (block.kind == 'c' and is_mine) or block.kind == 't' then",
    ),
    Mutant(
        "a repeated report of a block is split",
        "complete_blocks",
        "elseif block.kind == 'r' and is_mine then",
        "elseif false then",
    ),
    Mutant(
        "any report of a recorded block is taken for its own",
        "complete_blocks",
        "elseif block.kind == 'r' and is_mine then",
        "elseif block.kind == 'r' then",
    ),
    Mutant("the last page ends nothing", "complete_blocks", "settle(header, time)\nsave", "save"),
    Mutant(
        "a page counts as one member", "complete_blocks", "header.recorded + last - first + 1", "header.recorded + 1"
    ),
    Mutant(
        "a recorded block keeps its slots",
        "complete_blocks",
        "if block.kind == 'c' then header.running",
        "if false then header.running",
    ),
    Mutant(
        "a recorded block stays due",
        "complete_blocks",
        "  redis.call('ZREM', DUE, 'b' .. b)\n  header.recorded",
        "  header.recorded",
    ),
    Mutant("a recorded block is not in the order", "complete_blocks", "  redis.call('RPUSH', ORDER, 'b' .. b)\n", ""),
    Mutant(
        "failures in a page count as successes",
        "complete_blocks",
        "states.SUCCEEDED = states.SUCCEEDED - 1\n    states[failure.state] = (states[failure.state] or 0) + 1",
        "",
    ),
    Mutant(
        "a critical failure in a page is overlooked",
        "complete_blocks",
        "header.outcome_bytes = header.outcome_bytes + #page\n  note_critical(header, failed)",
        "",
    ),
    Mutant(
        "a member that a page has may report again",
        "complete",
        "elseif block.kind == 'r' and redis.call('HEXISTS', FLOORS, index) == 0 then",
        "elseif false then",
    ),
    Mutant(
        "a released block keeps its attempt",
        "claim_blocks",
        "return {kind = kind, attempt = 0, waits",
        "return {kind = kind, attempt = 1, waits",
    ),
    Mutant(
        "a released block keeps its owner",
        "release",
        "queue_again(block, '-' .. owner, time)",
        "queue_again(block, owner, time)",
    ),
    Mutant(
        "a released block keeps its slots", "release", "    header.running = header.running - (last - first + 1)\n", ""
    ),
    Mutant(
        "a released block is still counted as executed",
        "release",
        "    header.executions = header.executions - (last - first + 1)\n",
        "",
    ),
    Mutant(
        "blocks of others are released",
        "release",
        "  if block.owner == owner then\n    queue_again",
        "  if block.kind == 'c' then\n    queue_again",
    ),
    Mutant(
        "a released block is due only when its lease ends",
        "release",
        "    scores[#scores + 1] = due\n    scores[#scores + 1] = 'b' .. b\n",
        "",
    ),
    Mutant(
        "a release repeated forgets the block",
        "release",
        "block.owner == owner or block.owner == '-' .. owner\n",
        "block.owner == owner\n",
    ),
    # beats
    Mutant("a beat of a block extends nothing", "beat", "then return keep('b' .. b) end", "then return end"),
    Mutant(
        "a beat of anybody extends a block",
        "beat",
        "if block.kind == 'c' and block.attempt == attempt and block.owner == owner then",
        "if block.kind == 'c' then",
    ),
    Mutant(
        "a beat does not see who has a thawed block",
        "beat",
        "block.kind == 't' and redis",
        "block.kind == 'x' and redis",
    ),
    Mutant(
        "a beat does not tell what is gone", "beat", "keep(index) else gone[#gone + 1] = index end", "keep(index) end"
    ),
    Mutant(
        "a beat of the owner keeps no part of a thawed block",
        "beat",
        "then keep(index) else gone",
        "then local _ else gone",
    ),
    Mutant(
        "nobody keeps a block for a process that cannot",
        "keep",
        "if whole.block.kind == 'c' and whole.block.owner == owner then",
        "if false then",
    ),
    Mutant(
        "a block of another is kept",
        "keep",
        "if whole.block.kind == 'c' and whole.block.owner == owner then",
        "if whole.block.kind == 'c' then",
    ),
    Mutant("a block counts as named by one member of it", "keep", "if count == last - first + 1 then", "if true then"),
    # the sweeper
    Mutant("a block that nobody claimed is not published again", "sweep", "        names[#names + 1] = entry\n", ""),
    Mutant(
        "a block that nobody claimed stays due",
        "sweep",
        "scores[#scores + 1] = time + header.queue_wait * 2 ^ block.waits",
        "scores[#scores + 1] = time",
    ),
    Mutant(
        "the wait of a block is not doubled",
        "sweep",
        "texts[#texts + 1] = open_text(block)",
        "block.waits = 0 texts[#texts + 1] = open_text(block)",
    ),
    Mutant(
        "members of a lost block are not swept at once",
        "sweep",
        "        for index = first, last do indices[#indices + 1] = tostring(index) end\n",
        "",
    ),
    Mutant("an expedited block keeps its long wait", "expedite", "    block.waits = 0\n", ""),
    Mutant("blocks are not expedited", "expedite", "    due(entry, time)\n  else\n    held(", "  else\n    held("),
    Mutant("claimed blocks are expedited", "expedite", "elseif block.kind == 'o' then", "else"),
    # ends
    Mutant(
        "a cancel leaves blocks open",
        "cancel",
        "for _, b in ipairs(blocks) do end_block(header, b, get_block(b), time, state, payload) end",
        "",
    ),
    Mutant(
        "a block that is cut was never run",
        "cancel",
        "'e %s %d %d %s\\n', state, block.attempt,",
        "'e %s %d %d %s\\n', state, 0,",
    ),
    Mutant(
        "a block that is cut had no owner",
        "cancel",
        "local owner = block.kind == 'c' and block.owner or ''",
        "local owner = ''",
    ),
    Mutant(
        "no block is left out",
        "complete",
        "end_block(header, b, get_block(b), time, 'CANCELLED', header.rest)\n    gone",
        "has_more = false\n    gone",
    ),
    Mutant(
        "it is not told why a block is left out",
        "complete",
        "get_block(b), time, 'CANCELLED', header.rest)",
        "get_block(b), time, 'CANCELLED', '')",
    ),
    # another round
    Mutant("a page has again what runs again", "read", "if floor then again[#again + 1] = failures[i] end", ""),
    Mutant(
        "failures of a page do not run again",
        "reopen",
        "indices = failures_in(block)",
        "indices = {}",
    ),
    Mutant(
        "a block that the record ended is not split", "reopen", "if block.kind ~= 'e' then return end", "do return end"
    ),
    Mutant("members of a split block are missing in the order", "reopen", "  each('RPUSH', ORDER, names)\n", ""),
    Mutant("a split block stays in the order", "reopen", "  redis.call('LREM', ORDER, 1, 'b' .. b)\n", ""),
    Mutant("a split block is not thawed", "reopen", "  redis.call('HSET', BLOCKS, b, 't')\n", ""),
    Mutant("outcomes of a split block are lost", "reopen", "  each('HSET', OUTCOMES, values)\n", ""),
    Mutant(
        "the rest of a split block counts as in a block",
        "reopen",
        "  header.in_blocks = header.in_blocks - #names\n",
        "",
    ),
    Mutant(
        "a block that runs again is not thawed",
        "reopen",
        "    blocks[#blocks + 1] = 't'\n",
        "    blocks[#blocks + 1] = 'o 0 0 -'\n",
    ),
    Mutant(
        "a block that runs again keeps its place in the order",
        "reopen",
        "or (b and redis.call('SISMEMBER', THAWED, b) == 1)",
        "",
    ),
    Mutant(
        "what a page has no more counts as in a block",
        "reopen",
        "      if row.is_in_block then count('in_blocks', 1) end\n",
        "",
    ),
    Mutant("a timeout in a page is taken for a success", "reopen", "failure == 'T' and 'TIMED_OUT' or", ""),
]
