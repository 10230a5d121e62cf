-- How members and groups end. The loader puts it behind blocks.lua. Touches what lasts and what passes.

-- Whether nothing of the run can ever run again: then nobody needs what its members were sent. Ids that do not follow from
-- the group's are looked up there.
local function is_spent(header)
  if header.regular == 0 or header.SUCCEEDED < header.n then return false end
  local last = header.continuation == 1 and redis.call('HGET', OUTCOMES, header.n)
  return header.continuation == 0 or (last and string.sub(last, 1, 10) == 'SUCCEEDED ')
end

-- Nothing more will happen to the run: from here its keys expire.
local function close(header)
  header.closed = 1
  redis.call('ZREM', OPEN, header.run)
  redis.call('UNLINK', unpack(PASSING))
  if is_spent(header) then
    header.spent = 1
    redis.call('UNLINK', MANIFEST, SHARED)
    drop_blobs(shared_blobs())
  end
  -- A stream takes its first 4 kB at once; a copy of it takes what it holds.
  if redis.call('COPY', EVENTS, EVENTS .. ':copy', 'REPLACE') == 1 then redis.call('RENAME', EVENTS .. ':copy', EVENTS) end
  for _, key in ipairs(LASTING) do redis.call('PEXPIRE', key, header.result_ttl) end
  each_blob('PEXPIRE', header.result_ttl)
end

-- Members of these that did not succeed may be critical: then the group fails.
local function note_critical(header, failed)
  if header.critical == 0 or header.critical_failed == 1 or #failed == 0 then return end
  local names = {}
  for i, index in ipairs(failed) do names[i] = 'critical:' .. index end
  for _, is_critical in ipairs(fetch('HMGET', HEADER, names)) do
    if is_critical then header.critical_failed = 1 end
  end
end

-- Record outcomes of members that have none. Each row: index, state, claim, payload; late, attempt and owner when a worker
-- reported it. An outcome is the line "state attempt time late owner" and the payload; late is `-` when nobody reported it.
local function record(header, rows, time)
  local values, indices = {}, {}
  for _, row in ipairs(rows) do
    local owner = row.owner or (is_owned(row.claim) and row.claim.owner or '')
    local late = row.owner and (row.late and '1' or '0') or '-'
    values[#values + 1] = row.index
    values[#values + 1] = string.format(
      '%s %d %d %s %s\n', row.state, row.attempt or row.claim.attempt, time, late, owner) .. row.payload
    indices[#indices + 1] = row.index
  end
  if #indices == 0 then return end
  each('HSET', OUTCOMES, values)
  each('RPUSH', ORDER, indices)
  each('HDEL', CLAIMS, indices)
  each('ZREM', DUE, indices)
  if header.max_in_flight > 0 then each('ZREM', BLOCKED, indices) end
  local failed = {}
  for _, row in ipairs(rows) do
    local names = blobs_in(row.payload)
    adopt(names)
    header.outcome_bytes = header.outcome_bytes + #row.payload + blob_bytes(names)
    if row.late then
      header.late = header.late + 1
      -- What was granted after the attempt that reported must not report either, should the member run again.
      redis.call('HSET', FLOORS, row.index, row.claim.attempt)
    end
    if row.index < header.n then
      header.recorded = header.recorded + 1
      header[row.state] = header[row.state] + 1
      if is_owned(row.claim) then header.running = header.running - 1 end
      if row.claim.owner == '@' then header.retrying = header.retrying - 1 end
      if row.state ~= 'SUCCEEDED' then failed[#failed + 1] = row.index end
    end
  end
  note_critical(header, failed)
end

-- Record a page: the outcomes of all members of a claimed block; failures are indices and their states.
local function record_page(header, b, block, time, failures, page)
  local first, last = block_range(header, b)
  local states, texts, failed = {SUCCEEDED = last - first + 1}, {}, {}
  for _, failure in ipairs(failures) do
    states.SUCCEEDED = states.SUCCEEDED - 1
    states[failure.state] = (states[failure.state] or 0) + 1
    texts[#texts + 1] = string.sub(failure.state, 1, 1) .. failure.index
    failed[#failed + 1] = failure.index
  end
  local list = #texts > 0 and table.concat(texts, ',') or '-'
  redis.call('HSET', PAGES, b, page)
  header.has_pages = 1
  redis.call('HSET', BLOCKS, b, string.format('r %d %d %s %s', block.attempt, time, list, block.owner))
  take_off(header, b, block, states)
  header.outcome_bytes = header.outcome_bytes + #page
  note_critical(header, failed)
end

-- End a block of open members that nobody reported, all alike.
local function end_block(header, b, block, time, state, payload)
  local first, last = block_range(header, b)
  local owner = block.kind == 'c' and block.owner or ''
  redis.call('HSET', BLOCKS, b, string.format('e %s %d %d %s\n', state, block.attempt, time, owner) .. payload)
  take_off(header, b, block, {[state] = last - first + 1})
  header.outcome_bytes = header.outcome_bytes + (last - first + 1) * #payload
  local indices = {}
  if header.critical == 1 then
    for index = first, last do indices[#indices + 1] = index end
  end
  note_critical(header, indices)
end

-- A slice of what is open, after so many: indices of single members as texts, numbers of blocks, and 1 where there may be
-- more.
local function open_entries(header, after)
  local entries, indices, blocks = redis.call('ZRANGE', DUE, after, after + CUT - 1), {}, {}
  if header.stride == 0 then return entries, blocks, #entries == CUT end
  for _, entry in ipairs(entries) do
    local b = block_named(entry)
    if b then blocks[#blocks + 1] = b else indices[#indices + 1] = entry end
  end
  table.sort(blocks)
  return indices, blocks, #entries == CUT
end

local function has_enough(header)
  return header.enough > 0 and header.state == 'RUNNING' and header.SUCCEEDED >= header.enough
end

-- Whether a member has failed in this round, and the policy is to begin no other one then.
local function has_failed(header)
  return header.fail_fast == 1 and header.state == 'RUNNING'
    and header.FAILED + header.TIMED_OUT + header.LOST > header.failed_before
end

-- Whether a member that has no outcome is left out: all are once enough have succeeded; once one has failed those that
-- nobody runs, unless they are being tried again.
local function is_left_out(header, claim)
  return has_enough(header) or (has_failed(header) and is_free(claim) and claim.retries == 0)
end

-- Members and blocks of the first slice in which something is to be left out, and whether there may be more after it.
local function superfluous(header)
  local rows, at, indices, blocks, has_more = {}, 0, nil, nil, nil
  repeat
    indices, blocks, has_more = open_entries(header, at)
    for i, text in ipairs(fetch('HMGET', CLAIMS, indices)) do
      local claim = parse_claim(text)
      if is_left_out(header, claim) then
        rows[#rows + 1] = {index = tonumber(indices[i]), state = 'CANCELLED', claim = claim, payload = header.rest}
      end
    end
    at = at + CUT
  until #rows + #blocks > 0 or not has_more
  table.sort(rows, function(a, b) return a.index < b.index end)
  return rows, blocks, has_more
end

-- Leave out a slice of what need not run any more, where the policy says so. Until none of it is left nobody claims one; a
-- sweeper goes on where the caller does not. Answers the entries as a set of texts, and whether there may be more.
local function leave_out(header, time)
  local gone = {}
  local is_enough = has_enough(header)
  if not (is_enough or has_failed(header)) then return gone, false end
  local rows, blocks, has_more = superfluous(header)
  for _, row in ipairs(rows) do gone[tostring(row.index)] = true end
  record(header, rows, time)
  for _, b in ipairs(blocks) do -- which nobody has: see claim_blocks.lua
    end_block(header, b, get_block(b), time, 'CANCELLED', header.rest)
    gone['b' .. b] = true
  end
  header.leaving = has_more and 1 or 0
  if has_more then look_by(header, time) end
  -- Groups that members opened end with them; those of a continuation are still to come.
  if is_enough and header.continuation == 0 then header.cut = 1 end
  return gone, has_more
end

local function without(gone, indices)
  local kept = {}
  for _, index in ipairs(indices) do
    if not gone[tostring(index)] then kept[#kept + 1] = index end
  end
  return kept
end

-- The last outcome ends the group, once. One that is being cancelled ends so, whatever its last members came to, and its
-- continuation with it.
local function settle(header, time)
  if header.state ~= 'RUNNING' or header.recorded < header.n then return false end
  -- A group that ran out of time has failed whatever its policy.
  local accepted = header.overdue == 0 and header.SUCCEEDED >= header.min_success and header.critical_failed == 0
  local is_cancelled = header.ending == 'CANCELLED'
  header.state = is_cancelled and 'CANCELLED' or accepted and 'DONE' or 'FAILED'
  header.ending, header.leaving = '', 0
  header.finished = time
  event('end', 'state', header.state)
  if is_cancelled and header.continuation == 1 then
    local claim = parse_claim(redis.call('HGET', CLAIMS, header.n))
    record(header, {{index = header.n, state = 'CANCELLED', claim = claim, payload = ''}}, time)
  end
  if header.continuation == 1 and not is_cancelled then
    redis.call('ZADD', DUE, time + header.queue_wait, header.n)
    look_by(header, time + header.queue_wait)
  else
    close(header)
  end
  return true
end

-- End a slice of the open members: as TIMED_OUT, the group FAILED, where `ending` is FAILED; else all as CANCELLED, with the
-- continuation. Until none is left nobody claims one, and what is reported still counts; a sweeper goes on where the caller
-- does not. Of two endings the one that began first holds, as does enough that have succeeded: then this ends what is left
-- out. Answers whether there may be more to end.
local function cut(header, time, ending, reason)
  local is_enough = header.ending == '' and header.leaving == 1 and has_enough(header)
  if header.ending == '' and not is_enough then
    header.cut = 1
    header.overdue = ending == 'FAILED' and 1 or 0
    header.reason = reason
    header.ending = header.state == 'RUNNING' and ending or ''
  end
  local state = header.ending == 'FAILED' and 'TIMED_OUT' or 'CANCELLED'
  local payload = is_enough and header.rest or ''
  local indices, blocks, has_more = open_entries(header, 0)
  local rows = {}
  for i, text in ipairs(fetch('HMGET', CLAIMS, indices)) do
    rows[i] = {index = tonumber(indices[i]), state = state, claim = parse_claim(text), payload = payload}
  end
  table.sort(rows, function(a, b) return a.index < b.index end)
  record(header, rows, time)
  for _, b in ipairs(blocks) do end_block(header, b, get_block(b), time, state, payload) end
  if header.state == 'RUNNING' then settle(header, time) else close(header) end
  has_more = header.closed == 0 and (is_enough or (has_more and header.state == 'RUNNING'))
  if has_more then look_by(header, time) end
  save(header)
  return has_more
end

-- Indices that wait for a slot of `max_in_flight`, as many as are free.
local function ready(header)
  local free = header.max_in_flight - header.running
  if header.max_in_flight == 0 or free <= 0 or header.state ~= 'RUNNING' then return {} end
  local indices = redis.call('ZRANGE', BLOCKED, 0, free - 1)
  if #indices > 0 then each('ZREM', BLOCKED, indices) end
  return indices
end

-- Forget a slice of what members came to that are to run again since; whether there is more.
local function forget(header)
  local names, stale = redis.call('LPOP', STALE, CUT) or {}, {}
  local claims, texts = fetch('HMGET', CLAIMS, names), fetch('HMGET', OUTCOMES, names)
  for i, name in ipairs(names) do
    if claims[i] and texts[i] then
      drop_blobs(blobs_of_outcome(texts[i]))
      stale[#stale + 1] = name
    end
  end
  each('HDEL', OUTCOMES, stale)
  local has_more = redis.call('EXISTS', STALE) == 1
  if not has_more and header.cut == FORGETTING then header.cut = 0 end
  return has_more
end
