-- Looks through one index of questions from its newest on. Reads: that index, and the rows in it.
-- KEYS: the index. ARGV: prefix, upper end of at, id behind which to go on (or ''), '1' for open ones, '0' for settled ones
-- (or ''), how many to answer. Answers ids.
local prefix, upper, behind, is_open, limit = unpack(ARGV)
local found, offset = {}, 0
while true do
  local page = redis.call('ZREVRANGEBYSCORE', KEYS[1], upper, '-inf', 'WITHSCORES', 'LIMIT', offset, 200)
  for i = 1, #page, 2 do
    local id, at = page[i], page[i + 1]
    if not (behind ~= '' and tonumber(at) == tonumber(upper) and id >= behind) then
      local row = redis.call('HMGET', prefix .. ':q:' .. id, 'kind', 'state')
      if row[1] == 'question' and (is_open == '' or (row[2] == 'open') == (is_open == '1')) then
        found[#found + 1] = id
        if #found >= tonumber(limit) then return found end
      end
    end
  end
  if #page < 400 then return found end
  offset = offset + 200
end
