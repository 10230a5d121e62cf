-- Which execution continues a run of a workflow. Touches: owner of the run (KEYS 1), which always expires.
-- ARGV: what, token, name, lease, milliseconds that the key is kept, end of the lease that was seen before (0: none), 1 when
-- that was seen for as long as the lease is: then it is over whatever the clock says, which may have been set back.
-- `claim` takes a run that is free or left behind; one that changed since it was seen has an owner that lives.
-- `beat` extends a lease, also one that is over while nobody else claimed, and writes again what was wiped out.
-- `release` frees. Each may be repeated. Answers 1 when the run is the token's, epoch, name of the owner, since when,
-- end of the lease, what is left of it, and how long it is.
local OWNER = KEYS[1]
local what, token = ARGV[1], ARGV[2]
local time = server_time() -- which nobody corrects while no group is open
local held = redis.call('HMGET', OWNER, 'token', 'epoch', 'name', 'since', 'ends', 'lease')
local ends = tonumber(held[5] or 0)

if what == 'release' then
  if held[1] == token then redis.call('HSET', OWNER, 'token', '', 'ends', 0) end
  return {held[1] == token and 1 or 0, tonumber(held[2] or 0), held[3] or '', tonumber(held[4] or 0), 0, 0, 0}
end

local seen = tonumber(ARGV[6])
local is_left = held[1] == '' or ends <= time or (ARGV[7] == '1' and seen == ends)
if held[1] ~= token then
  if held[1] and (what == 'beat' or not is_left or (seen > 0 and seen ~= ends)) then
    return {0, tonumber(held[2]), held[3], tonumber(held[4]), ends, math.max(ends - time, 0), tonumber(held[6] or 0)}
  end
  held[2], held[3], held[4] = tonumber(held[2] or 0) + 1, ARGV[3], time
end
ends = time + tonumber(ARGV[4])
redis.call('HSET', OWNER, 'token', token, 'epoch', held[2], 'name', held[3], 'since', held[4], 'ends', ends,
  'lease', ARGV[4])
redis.call('PEXPIRE', OWNER, ARGV[5])
return {1, tonumber(held[2]), held[3], tonumber(held[4]), ends, ends - time, tonumber(ARGV[4])}
