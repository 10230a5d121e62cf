-- Take whole blocks of members that nothing has happened to. Touches: header blocks deadlines open; reads manifest.
-- ARGV: owner, the opener whose specification the caller has, then first and last index of each range. Answers a text of
-- state, remaining time, granted ("number attempt first last" of each), ranges (flat) that are left for claim.lua, and the
-- opener; the specification, empty where the caller has it; the chunks of the granted blocks.
local owner, known = ARGV[1], ARGV[2]
local header = load(
  'opener', 'deadline', 'lease', 'n', 'max_in_flight', 'running', 'executions', 'own_attempts', 'max_attempts', 'look',
  'enough', 'fail_fast', 'stride', 'round', 'cut')
if not header then return {false} end
local time = now()
local remaining = header.deadline > 0 and math.max(0, header.deadline - time) or -1
-- Where each member is to be claimed when it is its turn, blocks are left to claim.lua; so is what it refuses whole.
local takes_blocks = header.stride > 0 and header.max_in_flight == 0 and header.own_attempts == 0
  and header.max_attempts ~= 1 and header.enough == 0 and header.fail_fast == 0
  and header.state == 'RUNNING' and remaining ~= 0 and header.cut == 0
local granted, left, names, written, leases = {}, {}, {}, {}, {}

local function leave(first, last)
  if #left > 0 and left[#left] == first - 1 then
    left[#left] = last
  else
    left[#left + 1] = first
    left[#left + 1] = last
  end
end

local function take(b, block, first, last)
  if block.kind == 'o' then
    block.attempt, block.owner, block.since = block.attempt + 1, owner, time
    header.running = header.running + last - first + 1
    header.executions = header.executions + last - first + 1
    written[#written + 1] = b
    written[#written + 1] = string.format('c %d %d %d %s', block.attempt, block.queued, block.since, owner)
  end
  leases[#leases + 1] = time + header.lease
  leases[#leases + 1] = 'b' .. b
  granted[#granted + 1] = string.format('%d %d %d %d', b, block.attempt, first, last)
  names[#names + 1] = 'b' .. b
end

for i = 3, #ARGV, 2 do
  local at, last = tonumber(ARGV[i]), tonumber(ARGV[i + 1])
  while at <= last do
    if not takes_blocks or at >= header.n then
      leave(at, last)
      break
    end
    local b = block_of(header, at)
    local first, final = block_range(header, b)
    local block = get_block(b)
    local is_mine = block.kind == 'c' and block.owner == owner
    if at == first and last >= final and (block.kind == 'o' or is_mine) then
      take(b, block, first, final)
    elseif block.kind == 't' or block.kind == 'o' or is_mine or header.round > 0 then
      leave(at, math.min(last, final))
    end -- what another has, or what is recorded and does not run again, is refused
    at = final + 1
  end
end
each('HSET', BLOCKS, written)
each('ZADD', DUE, leases)
if #granted > 0 then look_by(header, time + header.lease) end
save(header)
return {
  as_text(header.state, remaining, granted, left, header.opener), unknown_spec(header, known),
  fetch('HMGET', MANIFEST, names),
}
