-- Release members that were claimed and not started: they go back unrun, whole blocks as such.
-- Touches: header outcomes order claims deadlines blocks blocked events open; manifest shared children expire at the end.
-- ARGV: owner, indices. Answers what was released, what may be published, and 1 when leave_out.lua is to be called.
local owner = ARGV[1]
local header = load()
if not header then return {{}, {}, 0} end
local asked = {}
for i = 2, #ARGV do asked[#asked + 1] = ARGV[i] end
local blocks, indices = whole_blocks(header, asked)
local claims = fetch('HMGET', CLAIMS, indices)
local time = now()
local due = time + header.queue_wait
local released, written, scores, opened = {}, {}, {}, {}
for _, whole in ipairs(blocks) do
  local b, block = whole.number, whole.block
  local first, last = block_range(header, b)
  local is_mine = block.owner == owner or block.owner == '-' .. owner
  if block.owner == owner then
    queue_again(block, '-' .. owner, time)
    opened[#opened + 1] = b
    opened[#opened + 1] = open_text(block)
    scores[#scores + 1] = due
    scores[#scores + 1] = 'b' .. b
    header.executions = header.executions - (last - first + 1)
    header.running = header.running - (last - first + 1)
  end
  for index = first, is_mine and last or first - 1 do released[#released + 1] = tostring(index) end
end
for i, index in ipairs(indices) do
  local claim = parse_claim(claims[i])
  if claim.owner == '-' .. owner then
    released[#released + 1] = index
  elseif claim.owner == owner then
    claim.attempt, claim.waits = claim.attempt - 1, 0
    queue_again(claim, '-' .. owner, time)
    written[#written + 1] = index
    written[#written + 1] = claim_text(claim)
    scores[#scores + 1] = due
    scores[#scores + 1] = index
    released[#released + 1] = index
    header.executions = header.executions - 1
    if tonumber(index) < header.n then header.running = header.running - 1 end
  end
end
each('HSET', BLOCKS, opened)
each('HSET', CLAIMS, written)
each('ZADD', DUE, scores)
if #scores > 0 then look_by(header, due) end
local gone, has_more = leave_out(header, time)
released = without(gone, released)
if settle(header, time) and header.closed == 0 then -- the sweeper publishes the continuation at its next look
  redis.call('ZADD', DUE, time, header.n)
  look_by(header, time)
end
save(header)
return {released, ready(header), has_more and 1 or 0}
