-- Take members to run. Touches: header claims deadlines blocks blocked open; reads manifest.
-- ARGV: owner, limit (0: none), 1 to answer with envelopes, the opener whose specification the caller has, indices. Only an
-- open member has an entry in `due`.
-- Answers a text of state, remaining time, granted ("index attempt losses retries" of each), left, refused, blocked and the
-- opener; the specification, empty where the caller has it; the envelopes, or the chunks of blocks, each once.
local owner, limit, with_envelopes, known = ARGV[1], tonumber(ARGV[2]), ARGV[3] == '1', ARGV[4]
local header = load(
  'opener', 'deadline', 'lease', 'n', 'max_in_flight', 'running', 'executions', 'own_attempts', 'max_attempts', 'look', 'enough',
  'fail_fast', 'stride', 'cut', 'leaving')
if not header then return {false} end
local time = now()
local indices, seen = {}, {}
for i = 5, #ARGV do
  if not seen[ARGV[i]] then indices[#indices + 1] = ARGV[i] end
  seen[ARGV[i]] = true
end
local remaining = header.deadline > 0 and math.max(0, header.deadline - time) or -1
local is_over = header.state == 'RUNNING' and (remaining == 0 or header.cut == 1)
if header.state == 'OPENING' or is_over or header.cut == FORGETTING then
  return {as_text(header.state, remaining, {}, {}, indices, {}, header.opener), unknown_spec(header, known), {}}
end

thaw_for(header, indices)
local scores = fetch('ZMSCORE', DUE, indices)
local claims = fetch('HMGET', CLAIMS, indices)
local limits = budgets(header, indices)
local granted, left, refused, blocked, written, leases = {}, {}, {}, {}, {}, {}
local alone, taken = false, {}
local is_each_alone = header.enough > 0 or header.fail_fast == 1 -- what is claimed is begun, and not left out
for i, index in ipairs(indices) do
  local claim = parse_claim(claims[i])
  local is_mine = claim.owner == owner
  local is_early = claim.owner == '@' and tonumber(scores[i] or 0) > time
  local is_suspect = claim.losses > 0 or limits[i] == 1
  local is_unwanted = header.leaving == 1 and is_left_out(header, claim)
  if not scores[i] or is_early or (is_owned(claim) and not is_mine) or is_unwanted then
    refused[#refused + 1] = index
  elseif alone or (is_suspect and #taken > 0) or (limit > 0 and #taken >= limit) then
    left[#left + 1] = index
  elseif not is_mine and header.max_in_flight > 0 and tonumber(index) < header.n
      and header.running >= header.max_in_flight then
    blocked[#blocked + 1] = index
  else
    if not is_mine then
      if claim.owner == '@' and tonumber(index) < header.n then header.retrying = header.retrying - 1 end
      claim.attempt, claim.waits, claim.owner, claim.since = claim.attempt + 1, 0, owner, time
      header.executions = header.executions + 1
      if tonumber(index) < header.n then header.running = header.running + 1 end
      written[#written + 1] = index
      written[#written + 1] = claim_text(claim)
    end
    leases[#leases + 1] = time + header.lease
    leases[#leases + 1] = index
    taken[#taken + 1] = index
    granted[#granted + 1] = string.format('%s %d %d %d', index, claim.attempt, claim.losses, claim.retries)
    alone = is_suspect or is_each_alone
  end
end

each('HSET', CLAIMS, written)
each('ZADD', DUE, leases)
if header.max_in_flight > 0 then
  each('ZREM', BLOCKED, taken)
  for _, index in ipairs(blocked) do redis.call('ZADD', BLOCKED, index, index) end
end
if #taken > 0 then look_by(header, time + header.lease) end
save(header)
local envelopes = {}
if with_envelopes and header.stride == 0 then
  envelopes = fetch('HMGET', MANIFEST, taken)
elseif with_envelopes then -- a chunk of several of them goes out once, with the first
  local sent = {}
  for i, index in ipairs(taken) do
    local b = block_of(header, index)
    local name = b and 'b' .. b or index
    envelopes[i] = not sent[name] and redis.call('HGET', MANIFEST, name) or ''
    sent[name] = true
  end
end
return {
  as_text(header.state, remaining, granted, left, refused, blocked, header.opener), unknown_spec(header, known), envelopes,
}
