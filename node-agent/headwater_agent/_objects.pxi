# SPDX-License-Identifier: Apache-2.0
# What a tenant's renderer remembers of an object: one row of one cache line, found by serial.
# Included by _render.pyx.

cdef enum:
    ROW_FOREIGN = 1  # made in another tenant's slot: declared by type only
    ROW_RESUMED = 2  # seen before and forgotten: its versions go on above all forgotten ones
    ROW_HISTORY = 4  # kernel versions were jumped over: see ObjectTable.history
    ROW_ASSOCIATED = 8  # a task's edge from the machine was made in this epoch
    ROW_KEPT = 16  # what its last description said is kept: see ObjectTable.kept
    ROW_GUESS = 32  # never described: its type is what the edge that mentioned it suggested
    ROW_MARKED = 64  # the declaration at .at is the first, and has the mark hw:resumed
    ROW_STANDING = 128  # a task that was declared with a standing: see ObjectTable.standing

    KEPT_BYTES = 112  # of a vertex record's body: its longest member, an extended attribute


cdef struct Row:
    uint64_t serial  # 0: the row is free
    char id[22]
    uint8_t type
    uint8_t flags
    uint32_t kernel  # last kernel version seen
    uint32_t tenant  # the tenant's number of it
    uint32_t since  # first kernel version after the last jump
    uint32_t epoch  # last epoch in which the current version was declared
    uint32_t document  # in which the current version was declared
    uint32_t used  # document that touched the row last
    uint32_t at  # where its declaration begins in the section of that document
    uint32_t length


cdef struct Kept:
    # What documents that stand alone need of an object besides its row.
    uint32_t document  # in which the versions from .low to the current one are declared
    uint32_t low
    uint8_t body[KEPT_BYTES]  # of the last vertex record; holds if the row has ROW_KEPT


cdef class ObjectTable:
    """Rows by serial: open addressing over a dense array of rows."""

    cdef Row *rows
    cdef Kept *kept  # by row, once a document has to stand alone; NULL until then
    cdef uint32_t *index  # row number + 1; 0: empty
    cdef uint64_t mask
    cdef int shift
    cdef uint32_t room, count, free_row  # free rows are chained through .kernel
    cdef uint32_t made  # rows ever handed out of the array
    cdef readonly dict history
    cdef dict standing  # by serial: marks of a task that hold, and ever held << 16
    cdef readonly uint32_t floor  # above every version of a dropped object

    def __cinit__(self):
        self.room = 1024
        self.mask = 2047
        self.shift = 64 - 11
        self.rows = <Row *>malloc(self.room * sizeof(Row))
        self.index = <uint32_t *>calloc(self.mask + 1, sizeof(uint32_t))
        if self.rows == NULL or self.index == NULL:
            raise MemoryError("object table")
        self.history = {}
        self.standing = {}

    def __dealloc__(self):
        free(self.rows)
        free(self.kept)
        free(self.index)

    cdef int keep(self) except -1:
        """From now on there is a place for what each object's description said.

        Only tenants that ask for documents which stand alone pay for it: 120 bytes an object.
        """
        if self.kept == NULL:
            self.kept = <Kept *>calloc(self.room, sizeof(Kept))
            if self.kept == NULL:
                raise MemoryError(f"descriptions of {self.room} objects")
        return 0

    cdef inline int standing_of(self, const Row *row) except -1:
        return self.standing[row.serial] if row.flags & ROW_STANDING else 0

    cdef inline int set_standing(self, Row *row, int standing) except -1:
        self.standing[row.serial] = standing | standing << 16 | self.standing_of(row) & ~0xFFFF
        row.flags |= ROW_STANDING
        return 0

    cdef inline Kept *kept_of(self, const Row *row) noexcept:
        return &self.kept[row - self.rows]

    cdef inline uint64_t slot_of(self, uint64_t serial) noexcept:
        return (serial * <uint64_t>0x9E3779B97F4A7C15) >> self.shift

    cdef inline Row *find(self, uint64_t serial) noexcept:
        cdef uint64_t i = self.slot_of(serial)
        cdef uint32_t number
        while True:
            number = self.index[i]
            if number == 0:
                return NULL
            if self.rows[number - 1].serial == serial:
                return &self.rows[number - 1]
            i = (i + 1) & self.mask

    cdef int grow(self) except -1:
        cdef Row *rows = <Row *>realloc(self.rows, <size_t>self.room * 2 * sizeof(Row))
        cdef Kept *kept
        cdef uint32_t *index
        cdef uint32_t number
        cdef uint64_t i
        if rows == NULL:
            raise MemoryError(f"object table of {self.room * 2} rows")
        self.rows = rows
        if self.kept != NULL:
            kept = <Kept *>realloc(self.kept, <size_t>self.room * 2 * sizeof(Kept))
            if kept == NULL:
                raise MemoryError(f"descriptions of {self.room * 2} objects")
            self.kept = kept
        index = <uint32_t *>calloc((self.mask + 1) * 2, sizeof(uint32_t))
        if index == NULL:
            raise MemoryError(f"index of {self.room * 2} objects")
        free(self.index)
        self.index = index
        self.room *= 2
        self.mask = self.mask * 2 + 1
        self.shift -= 1
        for number in range(self.made):
            if rows[number].serial:
                i = self.slot_of(rows[number].serial)
                while index[i]:
                    i = (i + 1) & self.mask
                index[i] = number + 1
        return 0

    cdef Row *add(self, uint64_t serial) except NULL:
        """A zeroed row for a serial that is not in the table. Moves rows: find() again."""
        cdef uint32_t number
        cdef uint64_t i
        cdef Row *row
        if self.free_row:
            number = self.free_row
            self.free_row = self.rows[number - 1].kernel
        else:
            if self.made == self.room:
                self.grow()
            self.made += 1
            number = self.made
        i = self.slot_of(serial)
        while self.index[i]:
            i = (i + 1) & self.mask
        self.index[i] = number
        self.count += 1
        row = &self.rows[number - 1]
        memset(row, 0, sizeof(Row))
        if self.kept != NULL:
            self.kept[number - 1].document = 0
        row.serial = serial
        return row

    cdef int drop(self, uint64_t serial) except -1:
        cdef uint64_t i = self.slot_of(serial), j, home
        cdef uint32_t number
        cdef Row *row
        while True:
            number = self.index[i]
            if number == 0:
                return 0
            row = &self.rows[number - 1]
            if row.serial == serial:
                break
            i = (i + 1) & self.mask
        if row.tenant >= self.floor:
            self.floor = row.tenant + 1
        if row.flags & ROW_HISTORY:
            del self.history[serial]
        if row.flags & ROW_STANDING:
            del self.standing[serial]
        row.serial = 0
        row.kernel = self.free_row
        self.free_row = number
        self.count -= 1
        # Close the hole, so that a search never stops before what it looks for.
        j = i
        while True:
            j = (j + 1) & self.mask
            number = self.index[j]
            if number == 0:
                break
            home = self.slot_of(self.rows[number - 1].serial)
            if ((j - home) & self.mask) >= ((j - i) & self.mask):
                self.index[i] = number
                i = j
        self.index[i] = 0
        return 0

    cdef list oldest(self, uint32_t keep):
        """Serials of the rows used longest ago, as many as there are above `keep`."""
        cdef uint32_t number, position = 0
        cdef object used = np.empty(self.count, np.uint32), serials = np.empty(self.count, np.uint64)
        cdef uint32_t[::1] used_view = used
        cdef uint64_t[::1] serials_view = serials
        for number in range(self.made):
            if self.rows[number].serial:
                used_view[position] = self.rows[number].used
                serials_view[position] = self.rows[number].serial
                position += 1
        order = np.argpartition(used, self.count - keep)[: self.count - keep]
        return serials[order].tolist()
