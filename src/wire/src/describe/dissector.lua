-- From here on the same for every header: what the table above says is what is done.

local proto = Proto(header.filter, header.title)
local wrong = {
  constant = ProtoExpert.new(header.filter .. ".wrong_constant", "Wrong constant", expert.group.PROTOCOL, expert.severity.WARN),
  length = ProtoExpert.new(header.filter .. ".wrong_length", "Wrong length", expert.group.MALFORMED, expert.severity.ERROR),
  checksum = ProtoExpert.new(header.filter .. ".wrong_checksum", "Wrong checksum", expert.group.CHECKSUM, expert.severity.WARN),
}
proto.experts = { wrong.constant, wrong.length, wrong.checksum }

-- Where a field lies: its first byte, how many bytes it touches, and how many bits of the last are not its own.
local function place(field)
  local first = math.floor(field.at / 8)
  local len = math.ceil((field.at + field.bits) / 8) - first
  return first, len, (first + len) * 8 - field.at - field.bits
end

-- Whether Wireshark can cut the field's bits out by itself, which it then draws.
local function masked(field)
  local _, len = place(field)
  return field.bits % 8 ~= 0 and len <= 4
end

local function new_field(field)
  local name, filter = field.name, header.filter .. "." .. field.name
  if field.tail or field.kind == "bytes" then return ProtoField.bytes(filter, name, base.NONE, field.docs) end
  if field.kind == "ether" then return ProtoField.ether(filter, name, field.docs) end
  if field.kind == "ipv4" then return ProtoField.ipv4(filter, name, field.docs) end
  if field.kind == "ipv6" then return ProtoField.ipv6(filter, name, field.docs) end
  local _, len, below = place(field)
  local mask = masked(field) and (2 ^ field.bits - 1) * 2 ^ below or nil
  if field.kind == "bool" then return ProtoField.bool(filter, name, len * 8, nil, mask, field.docs) end
  local format = field.hex and base.HEX or base.DEC
  local bits = masked(field) and len * 8 or field.bits
  if bits <= 8 then return ProtoField.uint8(filter, name, format, field.values, mask, field.docs) end
  if bits <= 16 then return ProtoField.uint16(filter, name, format, field.values, mask, field.docs) end
  if bits <= 24 then return ProtoField.uint24(filter, name, format, field.values, mask, field.docs) end
  if bits <= 32 then return ProtoField.uint32(filter, name, format, field.values, mask, field.docs) end
  return ProtoField.uint64(filter, name, format, nil, nil, field.docs)
end

local known = {}
for _, field in ipairs(header.fields) do
  field.shown = new_field(field)
  table.insert(known, field.shown)
  -- Each flag by itself, below the number.
  for value, name in pairs(field.flags or {}) do
    local _, len, below = place(field)
    field.flag = field.flag or {}
    local filter = header.filter .. "." .. field.name .. "." .. name
    field.flag[value] = ProtoField.bool(filter, name, len * 8, nil, value * 2 ^ below)
    table.insert(known, field.flag[value])
  end
  if field.selects then
    if field.own then
      field.next = DissectorTable.new(field.selects, field.selects, ftypes.UINT32, base.DEC, proto)
    else
      field.next = DissectorTable.get(field.selects)
    end
  end
end
proto.fields = known

-- A number as a Lua number, or as an UInt64 where it has more than 32 bits.
local function read(buffer, field)
  local first, len, _ = place(field)
  if field.little then
    return field.bits <= 32 and buffer(first, len):le_uint() or buffer(first, len):le_uint64()
  end
  return buffer(first, len):bitfield(field.at - first * 8, field.bits)
end

local function number(buffer, field)
  local value = read(buffer, field)
  return type(value) == "number" and value or value:tonumber()
end

-- The digits of a number; a fraction would be a matter of Lua's version.
local function digits(value)
  return type(value) == "number" and string.format("%.0f", value) or tostring(value)
end

-- How long something is, by the field that says so: in bytes, and the field.
local function says(buffer, key, what)
  for _, field in ipairs(header.fields) do
    if field.length and field.length[key] == what then
      return number(buffer, field) * field.length.unit, field
    end
  end
end

-- The lengths of all that varies, the length of the header, and the field that is wrong if one is. A `partial`
-- header may go on beyond the buffer.
local function measure(buffer, partial)
  local tails, known_len, open, culprit = {}, header.fixed_len, nil, nil
  for _, field in ipairs(header.fields) do
    if field.tail then
      local len, by = says(buffer, "tail", field.name)
      if len then
        tails[field.name] = len
        known_len = known_len + len
        culprit = by
      else
        open = field.name
      end
    end
  end
  local len, by = says(buffer, "of", "header")
  if open then tails[open] = len and len - known_len or 0 end
  local whole = len or known_len
  if whole < known_len or (whole > buffer:len() and not partial) then return nil, header.fixed_len, by or culprit end
  return tails, whole, nil
end

-- The end of the header and what follows.
local function extent(buffer, header_len)
  local all, by = says(buffer, "of", "all")
  if not all then
    local payload
    payload, by = says(buffer, "of", "payload")
    all = payload and payload + header_len
  end
  if not all then return buffer:len(), nil end
  if all < header_len then return buffer:len(), by end
  if all > buffer:len() then return buffer:len(), all > buffer:reported_len() and by or nil end
  return all, nil
end

local bxor = bit32 and bit32.bxor or load("return function(a, b) return a ~ b end")()
local crc_table
local function crc32(bytes, polynomial)
  if not crc_table then
    crc_table = {}
    for n = 0, 255 do
      local crc = n
      for _ = 1, 8 do
        crc = crc % 2 == 1 and bxor(math.floor(crc / 2), polynomial) or math.floor(crc / 2)
      end
      crc_table[n] = crc
    end
  end
  local crc = 0xffffffff
  for _, byte in ipairs(bytes) do
    crc = bxor(crc_table[bxor(crc, byte) % 256], math.floor(crc / 256))
  end
  return bxor(crc, 0xffffffff)
end

-- RFC 1071.
local function internet(bytes)
  local sum = 0
  for n, byte in ipairs(bytes) do sum = sum + (n % 2 == 1 and byte * 256 or byte) end
  while sum > 0xffff do sum = sum % 0x10000 + math.floor(sum / 0x10000) end
  return 0xffff - sum
end

local addresses = {}
for _, name in ipairs({ "ip.src", "ip.dst", "ipv6.src", "ipv6.dst" }) do addresses[name] = Field.new(name) end

-- The pseudo header's bytes, from the innermost IP header; nil if there is none.
local function pseudo(protocol, len)
  local src, dst
  for _, version in ipairs({ "ip", "ipv6" }) do
    local all = { addresses[version .. ".src"]() }
    local last = all[#all]
    if last and (not src or last.offset > src.offset) then
      src = last
      local to = { addresses[version .. ".dst"]() }
      dst = to[#to]
    end
  end
  if not src or not dst then return nil end
  local bytes = {}
  for _, info in ipairs({ src, dst }) do
    local range = info.range
    for n = 0, range:len() - 1 do table.insert(bytes, range(n, 1):uint()) end
  end
  for _, byte in ipairs({ math.floor(len / 0x10000), 0, math.floor(len / 256) % 256, len % 256, 0, protocol }) do
    table.insert(bytes, byte)
  end
  return bytes
end

-- The right checksum, or nil if it cannot be known.
local function checksum(buffer, field, header_len, all_len)
  local len = field.checksum.all and all_len or header_len
  if buffer:len() < len or buffer:reported_len() > buffer:len() then return nil end
  local bytes = {}
  if field.checksum.pseudo then
    bytes = pseudo(field.checksum.pseudo, len)
    if not bytes then return nil end
  end
  local before, first, own = #bytes, place(field)
  for n = 0, len - 1 do table.insert(bytes, buffer(n, 1):uint()) end
  for n = first, first + own - 1 do bytes[before + n + 1] = 0 end
  if field.checksum.algorithm == "crc32" then return crc32(bytes, 0xedb88320) end
  if field.checksum.algorithm == "crc32c" then return crc32(bytes, 0x82f63b78) end
  local sum = internet(bytes)
  return sum == 0 and field.checksum.zero_is_none and 0xffff or sum
end

local function show(buffer, tree, field)
  local first, len = place(field)
  local range, item = buffer(first, len), nil
  if field.kind ~= "uint" or masked(field) or (field.bits % 8 == 0 and field.at % 8 == 0 and field.bits <= 32) then
    item = field.little and tree:add_le(field.shown, range) or tree:add(field.shown, range)
  else
    item = tree:add(field.shown, range, read(buffer, field))
  end
  for _, flag in pairs(field.flag or {}) do item:add(flag, range) end
  return item
end

local function check(buffer, item, field, header_len, all_len)
  local value = read(buffer, field)
  if field.constant and digits(value) ~= field.constant then
    item:add_proto_expert_info(wrong.constant, field.name .. " is not " .. field.constant_text)
  elseif field.checksum then
    local right = checksum(buffer, field, header_len, all_len)
    local none = field.checksum.zero_is_none and value == 0
    if none or not right then
      item:append_text(none and " [none]" or " [not checked]")
    elseif right == value then
      item:append_text(" [right]")
    else
      local text = string.format("%s is wrong: 0x%x expected", field.name, right)
      item:append_text(string.format(" [wrong: 0x%x expected]", right))
      item:add_proto_expert_info(wrong.checksum, text)
    end
  end
end

-- Hands on what follows the header.
local function payload(buffer, pinfo, root, rest)
  if rest:len() == 0 or header.payload.nothing then return end
  local whole = true
  for _, field in ipairs(header.fields) do
    if field.name == header.payload.if_zero then whole = number(buffer, field) == 0 end
  end
  if header.payload.always then
    local found, dissector = pcall(Dissector.get, header.payload.always)
    if found and dissector then return dissector:call(rest:tvb(), pinfo, root) end
  end
  for n = #header.fields, 1, -1 do
    local field = header.fields[n]
    if field.next and whole then
      local dissector = field.next:get_dissector(number(buffer, field))
      if dissector then return dissector:call(rest:tvb(), pinfo, root) end
    end
  end
  Dissector.get("data"):call(rest:tvb(), pinfo, root)
end

local function dissect(buffer, pinfo, root)
  pinfo.cols.protocol = header.name:upper()
  if buffer:len() < header.fixed_len then
    local text = string.format("%d bytes are too few for this header of %d", buffer:len(), header.fixed_len)
    root:add(proto, buffer()):add_proto_expert_info(wrong.length, text)
    return buffer:len()
  end
  local tails, header_len, culprit = measure(buffer)
  local all_len, too_long = extent(buffer, header_len)
  culprit = culprit or too_long
  local tree = root:add(proto, buffer(0, header_len))
  local said, at = {}, header.fixed_len
  for _, field in ipairs(header.fields) do
    if not field.tail then
      local item = show(buffer, tree, field)
      if field.kind == "uint" or field.kind == "bool" then check(buffer, item, field, header_len, all_len) end
      if field == culprit then item:add_proto_expert_info(wrong.length) end
      if field.values then
        local value = number(buffer, field)
        table.insert(said, field.name .. "=" .. (field.values[value] or digits(value)))
      end
    elseif tails and tails[field.name] > 0 then
      tree:add(field.shown, buffer(at, tails[field.name]))
      at = at + tails[field.name]
    end
  end
  if #said > 0 then
    pinfo.cols.info = table.concat(said, " ")
    tree:append_text(", " .. table.concat(said, ", "))
  end
  if all_len > header_len then payload(buffer, pinfo, root, buffer(header_len, all_len - header_len)) end
  return buffer:len()
end

-- How long the message is that a TCP stream goes on with; its fixed part is there.
local function message_len(buffer, _, offset)
  local message = buffer(offset):tvb()
  local _, header_len = measure(message, true)
  local all = says(message, "of", "all")
  local rest = says(message, "of", "payload")
  all = all or (rest and rest + header_len)
  return math.max(all, header.fixed_len)
end

local framed = false
for _, field in ipairs(header.fields) do
  framed = framed or (field.length and (field.length.of == "all" or field.length.of == "payload"))
end

-- One of several messages in a segment: what they say in the packet list is kept apart.
local function dissect_message(buffer, pinfo, root)
  local len = dissect(buffer, pinfo, root)
  pinfo.cols.info:append(" ")
  return len
end

function proto.dissector(buffer, pinfo, root)
  if framed and pinfo.can_desegment > 0 and pinfo.port_type == 2 then
    dissect_tcp_pdus(buffer, root, header.fixed_len, message_len, dissect_message)
    return buffer:len()
  end
  return dissect(buffer, pinfo, root)
end

for _, under in ipairs(header.under) do
  local found, numbers = pcall(DissectorTable.get, under.table)
  if found and numbers then
    numbers:add(under.value, proto)
  else
    report_failure(header.name .. ": there is no table " .. under.table .. "; load the script of that header first")
  end
end
