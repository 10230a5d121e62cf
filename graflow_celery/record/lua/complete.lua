-- Record results: the first outcome of a member wins, the last one ends the group.
-- Touches: header outcomes order claims deadlines blocks blocked floors events open; manifest shared children expire at the end.
-- ARGV: owner, then index, attempt, state, payload of each result. Answers a text of the state, recorded, late and
-- refused indices, 1 when all are recorded, 1 when the continuation is claimable, indices that may be published now, and
-- those whose long values are gone, which are not recorded, and 1 when leave_out.lua is to be called.
local owner = ARGV[1]
local header = load('n', 'recorded', 'running', 'SUCCEEDED', 'max_in_flight', 'outcome_bytes', 'told', 'round', 'enough',
  'fail_fast', 'stride')
if not header then return false end
local time = now()
local indices = {}
for i = 2, #ARGV, 4 do indices[#indices + 1] = ARGV[i] end
thaw_for(header, indices)
local claims = fetch('HMGET', CLAIMS, indices)
-- Attempts of earlier rounds are over: what they come to counts no more.
local floors = header.round > 0 and fetch('HMGET', FLOORS, indices) or {}

local rows, recorded, late, refused, missing, unwanted, seen = {}, {}, {}, {}, {}, {}, {}
for i, index in ipairs(indices) do
  local attempt, state, payload = tonumber(ARGV[4 * i - 1]), ARGV[4 * i], ARGV[4 * i + 1]
  local claim, names = parse_claim(claims[i]), blobs_in(payload)
  -- A member that is claimed has no outcome.
  local outcome = not claims[i] and outcome_of(header, index)
  if outcome and #names > 0 and names[1] ~= blobs_of_outcome(outcome)[1] then unwanted[#unwanted + 1] = names end
  if outcome or seen[index] then
    local of_attempt, was_late, by = string.match(outcome or '', '^[%u_]+ (%d+) %d+ ([01]) ([^\n]*)\n')
    if tonumber(of_attempt) == attempt and by == owner then
      recorded[#recorded + 1] = index
      if was_late == '1' then late[#late + 1] = index end
    else
      refused[#refused + 1] = index
      header.refused = header.refused + 1
    end
  elseif attempt <= tonumber(floors[i] or 0) or attempt > claim.attempt then
    unwanted[#unwanted + 1] = names
    refused[#refused + 1] = index
    header.refused = header.refused + 1
  elseif not are_there(names) then
    missing[#missing + 1] = index
  else
    local is_late = claim.attempt ~= attempt or claim.owner ~= owner
    rows[#rows + 1] = {
      index = tonumber(index), state = state, claim = claim, attempt = attempt, owner = owner, late = is_late,
      payload = payload,
    }
    recorded[#recorded + 1] = index
    if is_late then late[#late + 1] = index end
    seen[index] = true
  end
end

record(header, rows, time)
local has_more = false
if header.enough > 0 or header.fail_fast == 1 then has_more = select(2, leave_out(header, time)) end
if #rows > 0 and header.recorded < header.n then tell(header) end
local has_ended = settle(header, time)
if #rows > 0 and not has_ended and header.state ~= 'RUNNING' and header.closed == 0 then
  event('continuation')
  close(header)
end
save(header)
for _, names in ipairs(unwanted) do drop_blobs(names) end
local is_final = header.state ~= 'RUNNING'
local continues = is_final and header.closed == 0 and is_free(parse_claim(redis.call('HGET', CLAIMS, header.n)))
return as_text(
  header.state, recorded, late, refused, is_final and 1 or 0, continues and 1 or 0, ready(header), missing, has_more and 1 or 0)
