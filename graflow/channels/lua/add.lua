-- KEYS[1]  a key of a channel: the JSON text of a number, 0 when it is absent; keeps its time to live
-- KEYS[2]  remembers this operation for a while, so that it changes nothing when it comes again after a lost reply
-- ARGV[1]  the JSON text of the amount
-- ARGV[2]  milliseconds to remember it
-- Replies the text of the sum. Where Lua cannot add as exactly as the caller (integers beyond 64 bits, sums that are not
-- finite, whatever is no number), replies a list of the text (empty when absent), or 0 for another kind of data.
local done = redis.call('GET', KEYS[2])
if done then
  return done
end
local function remembered(sum)
  redis.call('SET', KEYS[2], sum, 'PX', ARGV[2])
  return sum
end
local kind = redis.call('TYPE', KEYS[1]).ok
if kind ~= 'string' and kind ~= 'none' then
  return 0
end
local text = redis.call('GET', KEYS[1])
local present, amount = text or '0', ARGV[1]
local integer, number = '^-?%d+$', '^-?%d+%.?%d*[eE]?[+-]?%d*$'

if present:match(integer) and amount:match(integer) then
  local reply = redis.pcall('INCRBY', KEYS[1], amount)
  if type(reply) == 'number' then
    -- Not the reply itself: Lua's numbers are doubles and lose digits beyond 53 bits.
    return remembered(redis.call('GET', KEYS[1]))
  end
elseif present:match(number) and amount:match(number) then
  local sum = tonumber(present) + tonumber(amount)
  if sum == sum and sum ~= math.huge and sum ~= -math.huge then
    local shown = string.format('%.17g', sum)
    if not shown:find('[.e]') then
      shown = shown .. '.0'
    end
    if text then
      redis.call('SET', KEYS[1], shown, 'KEEPTTL')
    else
      redis.call('SET', KEYS[1], shown)
    end
    return remembered(shown)
  end
end
return { text or nil }
