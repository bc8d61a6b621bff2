# SPDX-License-Identifier: Apache-2.0
# Growing byte buffers and the text of numbers and times. Included by _render.pyx.

cdef struct Buffer:
    char *data
    size_t size
    size_t room


cdef int buffer_grow(Buffer *buffer, size_t more) except -1:
    cdef size_t room = buffer.room if buffer.room else 4096
    cdef char *data
    while room < buffer.size + more:
        room *= 2
    data = <char *>realloc(buffer.data, room)
    if data == NULL:
        raise MemoryError(f"{room} bytes for one section of a document")
    buffer.data = data
    buffer.room = room
    return 0


cdef inline int buffer_reserve(Buffer *buffer, size_t more) except -1:
    if buffer.room - buffer.size < more:
        buffer_grow(buffer, more)
    return 0


cdef inline int put_bytes(Buffer *buffer, const char *data, size_t size) except -1:
    buffer_reserve(buffer, size)
    memcpy(buffer.data + buffer.size, data, size)
    buffer.size += size
    return 0


cdef inline int put_object(Buffer *buffer, bytes value) except -1:
    return put_bytes(buffer, PyBytes_AS_STRING(value), PyBytes_GET_SIZE(value))


cdef inline char *write_decimal(char *at, uint64_t value) noexcept:
    """Write `value`; return the place behind it. 20 bytes at most."""
    cdef char digits[20]
    cdef int n = 20, count
    cdef uint64_t quotient
    if value < 10:
        at[0] = <char>(48 + value)
        return at + 1
    while True:
        quotient = value // 10
        n -= 1
        digits[n] = <char>(48 + (value - quotient * 10))
        value = quotient
        if value == 0:
            break
    count = 20 - n
    memcpy(at, digits + n, count)
    return at + count


cdef inline char *write_padded(char *at, uint64_t value, int width) noexcept:
    cdef int i
    for i in range(width - 1, -1, -1):
        at[i] = <char>(48 + value % 10)
        value //= 10
    return at + width


cdef inline char *write_hexadecimal(char *at, uint64_t value) noexcept:
    """Write `value` as 0x and its digits; return the place behind it. 18 bytes at most."""
    cdef char *figures = b"0123456789abcdef"
    cdef int shift = 60
    memcpy(at, b"0x", 2)
    at += 2
    while shift > 0 and (value >> shift) == 0:
        shift -= 4
    while shift >= 0:
        at[0] = figures[(value >> shift) & 15]
        at += 1
        shift -= 4
    return at


cdef inline char *write_literal(char *at, const char *text, size_t size) noexcept:
    memcpy(at, text, size)
    return at + size


cdef char *write_integer(char *at, bint negative, uint64_t value) noexcept:
    """Write a JSON number, or a typed literal where a 32-bit consumer would cut it off."""
    cdef bint large = value > <uint64_t>2147483647 + negative
    if large:
        at = write_literal(at, b'{"$":"', 6)
    if negative:
        at[0] = b'-'
        at += 1
    at = write_decimal(at, value)
    if large:
        if value > <uint64_t>9223372036854775807 + negative:
            at = write_literal(at, b'","type":"xsd:unsignedLong"}', 28)
        else:
            at = write_literal(at, b'","type":"xsd:long"}', 20)
    return at


cdef void write_second(char *at, int64_t second) noexcept:
    """Write 19 bytes, YYYY-MM-DDTHH:MM:SS, of a Unix time (Howard Hinnant's civil_from_days)."""
    cdef int64_t days = second // 86400, rest = second % 86400
    cdef int64_t era, day_of_era, year_of_era, day_of_year, shifted, year
    days += 719468
    era = days // 146097
    day_of_era = days - era * 146097
    year_of_era = (
        day_of_era - day_of_era // 1460 + day_of_era // 36524 - day_of_era // 146096
    ) // 365
    day_of_year = day_of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    shifted = (5 * day_of_year + 2) // 153
    year = year_of_era + era * 400 + (1 if shifted >= 10 else 0)
    write_padded(at, year, 4)
    at[4] = b'-'
    write_padded(at + 5, shifted + 3 if shifted < 10 else shifted - 9, 2)
    at[7] = b'-'
    write_padded(at + 8, day_of_year - (153 * shifted + 2) // 5 + 1, 2)
    at[10] = b'T'
    write_padded(at + 11, rest // 3600, 2)
    at[13] = b':'
    write_padded(at + 14, rest // 60 % 60, 2)
    at[16] = b':'
    write_padded(at + 17, rest % 60, 2)
