-- Long values, which are written beside the scripts under keys that expire, until the run takes them over. The loader puts
-- this in front of lib.lua. Touches: blobs, blob:*.
local BLOBS, BLOB = KEYS[1] .. 'blobs', KEYS[1] .. 'blob:'

-- Names of the long values of a payload, which begins with "\1name name\n" when there are any; of an outcome, whose payload
-- begins after its first line, when `start` says so.
local function blobs_in(text, start)
  local names = {}
  if string.byte(text, start or 1) ~= 1 then return names end
  local list = string.match(text, '^\1([^\n]*)\n', start or 1)
  for name in string.gmatch(list or '', '[^ ]+') do names[#names + 1] = name end
  return names
end

local function blobs_of_outcome(text)
  return blobs_in(text, (string.find(text, '\n', 1, true) or #text) + 1)
end

local function are_there(names)
  for _, name in ipairs(names) do
    if redis.call('EXISTS', BLOB .. name) == 0 then return false end
  end
  return true
end

local function blob_bytes(names)
  local bytes = 0
  for _, name in ipairs(names) do bytes = bytes + redis.call('STRLEN', BLOB .. name) end
  return bytes
end

-- From here these last as long as the run does. Not the first write of a script: a full server does not refuse it.
local function adopt(names)
  for _, name in ipairs(names) do
    redis.call('SADD', BLOBS, name)
    redis.call('PERSIST', BLOB .. name)
  end
end

local function drop_blobs(names)
  for _, name in ipairs(names) do
    redis.call('UNLINK', BLOB .. name)
    redis.call('SREM', BLOBS, name)
  end
end

-- Names of long arguments: those of parts of outcomes begin with an index.
local function shared_blobs()
  local names = {}
  for _, name in ipairs(redis.call('SMEMBERS', BLOBS)) do
    if not string.find(name, '.', 1, true) then names[#names + 1] = name end
  end
  return names
end

-- One command on every long value of the run.
local function each_blob(command, ...)
  for _, name in ipairs(redis.call('SMEMBERS', BLOBS)) do redis.call(command, BLOB .. name, ...) end
  redis.call(command, BLOBS, ...)
end
