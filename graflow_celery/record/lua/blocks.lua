-- What scripts do with blocks; the loader puts it behind lib.lua. Touches: blocks claims deadlines order.
-- A block is `stride` members to all of which the same has happened. As long as that holds a block stands for its members in
-- `deadlines` (as `b<number>`) and in `order`, and its entry in `blocks` is one of
--   "o waits queued who"                       open: nobody has claimed one of them (who is `-` and who released them)
--   "c attempt queued since owner"             claimed: one delivery has them all
--   "r attempt time failures owner"            recorded: their outcomes are one page of `pages`; failures is a list like
--                                              "F3,T17" of members that are FAILED or TIMED_OUT, or `-`
--   "e state attempt time owner\npayload"      ended by the record itself, all with the same outcome, of which nobody reported
--   "t"                                        thawed: each member has entries of its own
-- Whatever is to happen to some of them thaws the block first; a thawed block stays thawed. A member that a page has, and
-- that has an entry in `floors`, runs again: the page does not count for it any more.
local function block_of(header, index)
  if header.stride == 0 or tonumber(index) >= header.n then return nil end
  return math.floor(tonumber(index) / header.stride)
end

local function block_range(header, b)
  local first = b * header.stride
  return first, math.min(first + header.stride, header.n) - 1
end

-- The number of the block that an entry of `deadlines` or `order` stands for, nil for that of a single member.
local function block_named(entry)
  return tonumber(string.match(entry, '^b(%d+)$'))
end

local function parse_block(text)
  local kind = text and string.sub(text, 1, 1) or 't'
  if kind == 'o' then
    local waits, queued, who = string.match(text, '^o (%d+) (%d+) (.*)$')
    return {kind = kind, attempt = 0, waits = tonumber(waits), queued = tonumber(queued), since = 0, owner = who}
  elseif kind == 'c' then
    local attempt, queued, since, owner = string.match(text, '^c (%d+) (%d+) (%d+) (.*)$')
    return {
      kind = kind, attempt = tonumber(attempt), waits = 0, queued = tonumber(queued), since = tonumber(since), owner = owner,
    }
  elseif kind == 'r' then
    local attempt, time, failures, owner = string.match(text, '^r (%d+) (%d+) (%S+) (.*)$')
    return {kind = kind, attempt = tonumber(attempt), time = time, failures = failures, owner = owner}
  elseif kind == 'e' then
    local state, attempt, time, owner, payload = string.match(text, '^e (%S+) (%d+) (%d+) ([^\n]*)\n(.*)$')
    return {kind = kind, state = state, attempt = tonumber(attempt), time = time, owner = owner, payload = payload}
  end
  return {kind = 't'}
end

local function get_block(b)
  return parse_block(redis.call('HGET', BLOCKS, b))
end

local function open_text(block)
  return string.format('o %d %d %s', block.waits, block.queued, block.owner)
end

-- What of each member of a block would stand in `claims`; nil where there would be nothing.
local function claim_of(block)
  if block.kind == 'o' and block.waits == 0 and block.queued == 0 and block.owner == '-' then return nil end
  return string.format('%d 0 0 %d %d %d %s', block.attempt, block.waits, block.queued, block.since, block.owner)
end

-- Give each member of a block that is not recorded its own entries.
local function thaw(header, b)
  local block = get_block(b)
  if block.kind ~= 'o' and block.kind ~= 'c' then return end
  local due, claim = redis.call('ZSCORE', DUE, 'b' .. b), claim_of(block)
  local scores, claims = {}, {}
  local first, last = block_range(header, b)
  for index = first, last do
    scores[#scores + 1] = due
    scores[#scores + 1] = index
    if claim then
      claims[#claims + 1] = index
      claims[#claims + 1] = claim
    end
  end
  each('HSET', CLAIMS, claims)
  each('ZADD', DUE, scores)
  redis.call('ZREM', DUE, 'b' .. b)
  redis.call('HSET', BLOCKS, b, 't')
end

-- Thaw the blocks of these members: before anything is read or written of single ones.
local function thaw_for(header, indices)
  if header.stride == 0 then return end
  local seen = {}
  for _, index in ipairs(indices) do
    local b = block_of(header, index)
    if b and not seen[b] then
      seen[b] = true
      thaw(header, b)
    end
  end
end

-- Apart: the blocks of which all members are among these and nothing has happened to some; and the other members, whose
-- blocks are thawed.
local function whole_blocks(header, indices)
  if header.stride == 0 then return {}, indices end
  local counts, whole, single, seen = {}, {}, {}, {}
  for _, index in ipairs(indices) do
    local b = block_of(header, index)
    if b and not seen[index] then counts[b] = (counts[b] or 0) + 1 end
    seen[index] = true
  end
  local taken = {}
  for b, count in pairs(counts) do
    local first, last = block_range(header, b)
    if count == last - first + 1 then
      local block = get_block(b)
      if block.kind == 'o' or block.kind == 'c' then taken[b] = block end
    end
  end
  for _, index in ipairs(indices) do
    local b = block_of(header, index)
    if not b or not taken[b] then
      single[#single + 1] = index
    elseif seen[b] ~= 'whole' then
      seen[b] = 'whole'
      whole[#whole + 1] = {number = b, block = taken[b]}
    end
  end
  thaw_for(header, single)
  return whole, single
end

-- Members of a recorded block that had not succeeded when it was recorded.
local function failures_in(block)
  local indices = {}
  for index in string.gmatch(block.failures, '%u(%d+)') do indices[#indices + 1] = index end
  return indices
end

-- State and rest of the outcome of a member that its block has, as a line like those in `outcomes`; nil when it has none.
local function outcome_in_block(header, index)
  local b = block_of(header, index)
  if not b then return nil end
  local block = get_block(b)
  if block.kind == 'e' then
    return string.format('%s %d %s - %s\n', block.state, block.attempt, block.time, block.owner) .. block.payload
  elseif block.kind == 'r' and redis.call('HEXISTS', FLOORS, index) == 0 then
    local failure = string.match(',' .. block.failures .. ',', ',(%u)' .. index .. ',')
    local state = failure == 'F' and 'FAILED' or failure == 'T' and 'TIMED_OUT' or 'SUCCEEDED'
    return string.format('%s %d %s 0 %s\n', state, block.attempt, block.time, block.owner)
  end
end

local function outcome_of(header, index)
  return redis.call('HGET', OUTCOMES, index) or outcome_in_block(header, index)
end

-- Whether keys of outcomes are missing that were there: a server that evicts takes whole ones.
local function lacks_outcomes(header)
  local wanted = {}
  if header.recorded > 0 then wanted[#wanted + 1] = ORDER end
  if header.recorded > header.in_blocks then wanted[#wanted + 1] = OUTCOMES end
  if header.stride > 0 then wanted[#wanted + 1] = BLOCKS end
  if header.has_pages == 1 then wanted[#wanted + 1] = PAGES end
  return #wanted > 0 and redis.call('EXISTS', unpack(wanted)) < #wanted
end

-- A block is recorded: count the outcomes of its members, and take it off what is due.
local function take_off(header, b, block, states)
  local first, last = block_range(header, b)
  redis.call('RPUSH', ORDER, 'b' .. b)
  redis.call('ZREM', DUE, 'b' .. b)
  header.recorded = header.recorded + last - first + 1
  header.in_blocks = header.in_blocks + last - first + 1
  if block.kind == 'c' then header.running = header.running - (last - first + 1) end
  for state, count in pairs(states) do
    if count > 0 then header[state] = header[state] + count end
  end
end

-- What a reader gets of a recorded block: its entry in `blocks`, the members of it that run again, and its page.
local function page_text(header, b)
  local text = redis.call('HGET', BLOCKS, b)
  if string.sub(text, 1, 1) ~= 'r' then return text end
  local again = {}
  if header.round > 0 then
    local failures = failures_in(parse_block(text))
    for i, floor in ipairs(fetch('HMGET', FLOORS, failures)) do
      if floor then again[#again + 1] = failures[i] end
    end
  end
  return text .. '\n' .. table.concat(again, ' ') .. '\n' .. redis.call('HGET', PAGES, b)
end
