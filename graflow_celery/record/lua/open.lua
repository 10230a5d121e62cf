-- Open a group, piece by piece of its manifest; it becomes RUNNING with the last one.
-- Touches: header manifest shared deadlines blocks events open; epoch and workers (KEYS 3 and 4), clock, header and children of the
-- parent (KEYS 5 and 6); -- outcomes order claims blocked children when it ends at once.
-- ARGV: digest, opener, fresh epoch, first entry, names of long arguments with spaces between them, number of header
-- arguments, number of shared arguments, then the header as names and values, the shared payloads as names and values, the
-- entries of the manifest: the chunks of the blocks, or an envelope of each member; and the envelope of the continuation.
-- Answers MISSING, before anything is written, when a long argument is gone; and with a group that is there, how many
-- members are in its blocks: another submitter may have made others. Of one that is not whole, those of the last are taken.
local EPOCH, WORKERS, PARENT, SIBLINGS = KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local OPENING_WAIT = 600000
local digest, opener, first = ARGV[1], ARGV[2], tonumber(ARGV[4])
local blobs = blobs_in('\1' .. ARGV[5] .. '\n')
local fields, payloads = tonumber(ARGV[6]), tonumber(ARGV[7])
local stride = 0
for i = 8, 7 + fields, 2 do
  if ARGV[i] == 'stride' then stride = tonumber(ARGV[i + 1]) end
end

local FIELDS = {
  'digest', 'opener', 'epoch', 'published', 'n', 'queue_wait', 'timeout', 'cut', 'recorded', 'stride', 'blocks', 'told',
}
local header = load(unpack(FIELDS))
if header then
  if header.digest ~= digest then return {'CONFLICT', header.state, header.epoch, header.published, header.stride} end
  if header.state ~= 'OPENING' then
    local status = header.opener == opener and 'CREATED' or 'ATTACHED'
    return {status, header.state, header.epoch, header.published, header.stride}
  end
  if header.stride ~= stride then header = nil end
end
if not header then
  if first > 0 then return {'GONE', '', '', 0, 0} end
  if not are_there(blobs) then return {'MISSING', '', '', 0, 0} end
  redis.call('SET', EPOCH, ARGV[3], 'NX')
  -- What a server that evicts keys has left of an earlier run.
  redis.call('UNLINK', unpack(LASTING))
  redis.call('UNLINK', unpack(PASSING))
  each_blob('PEXPIRE', OPENING_WAIT)
  redis.call('UNLINK', BLOBS)
  redis.call('HSET', HEADER, 'digest', digest, 'opener', opener, 'state', 'OPENING', 'epoch', redis.call('GET', EPOCH))
  local given = {}
  for i = 8, 7 + fields do given[#given + 1] = ARGV[i] end
  each('HSET', HEADER, given)
  header = load(unpack(FIELDS))
end
local time = wake(WORKERS)
redis.call('ZADD', OPEN, time + OPENING_WAIT, header.run)

local values, scores, blocks = {}, {}, {}
local heads = header.stride > 0 and header.blocks or header.n -- entries before the one of the continuation
adopt(blobs)
for i = 8 + fields, 7 + fields + payloads do values[#values + 1] = ARGV[i] end
each('HSET', SHARED, values)
values = {}
for i = 8 + fields + payloads, #ARGV do
  local entry = first + i - 8 - fields - payloads
  local name = entry
  if header.stride > 0 then name = entry < heads and 'b' .. entry or header.n end
  values[#values + 1] = name
  values[#values + 1] = ARGV[i]
  if entry < heads then
    scores[#scores + 1] = time + header.queue_wait
    scores[#scores + 1] = name
    if header.stride > 0 then
      blocks[#blocks + 1] = entry
      blocks[#blocks + 1] = 'o 0 0 -'
    end
  end
end
each('HSET', MANIFEST, values)
each('HSET', BLOCKS, blocks)
each('ZADD', DUE, scores)
if redis.call('HLEN', MANIFEST) < heads + header.continuation then return {'OPENING', 'OPENING', header.epoch, 0, 0} end

header.state = 'RUNNING'
header.opener = opener
header.opened = time
local look = time + header.queue_wait
if header.timeout > 0 then
  header.deadline = time + header.timeout
  look = math.min(look, header.deadline)
end
header.look = look
redis.call('ZADD', OPEN, look, header.run)
local begun = event('open', 'n', header.n)
if PARENT then
  local parent = redis.call('HMGET', PARENT, 'state', 'cut')
  if parent[1] then
    redis.call('SADD', SIBLINGS, header.run)
    local expiry = redis.call('PTTL', PARENT)
    if expiry > 0 then redis.call('PEXPIRE', SIBLINGS, expiry) end
  end
  if parent[2] == '1' then header.cut = 1 end
end
if header.cut == 1 then
  cut(header, time, 'CANCELLED', 'cancelled before it was opened')
else
  settle(header, time)
end
save(header)
local state = header.ending == '' and header.state or 'ENDING' -- there is more to cancel
return {'CREATED', state, header.epoch, header.published, header.stride, header.told == 1 and begun or ''}
