# SPDX-License-Identifier: Apache-2.0
# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# cython: initializedcheck=False, nonecheck=False
"""From the ring's bytes to the text of PROV-JSON documents: the one compiled module.

Why compiled: an edge of a document is some 300 bytes with six fields of varying width. Numpy
templates write and squeeze 1.3 million of them a second on one core, 0.9 million with compression,
before anything is decoded, looked up or numbered; one pass in C does all of it several times faster
and in less memory. What it has to produce is said by `headwater_agent.reference`, in plain Python;
tests compare the two on random workloads.

Who calls it: `headwater_agent.ring` (`scan`) and `headwater_agent.pipeline` (`Walker`, `Renderer`).
What is rare or needs a library (ids, names, gaps, compression) is called back in Python.
Promises: G2 (a number is seen once or reported), G4 (version edges before edges into the version),
G5 (a tenant's versions count its own records; foreign steps are one edge, however many they were).

A document either adds to earlier ones or stands alone: then every vertex that its edges mention is
declared in it, with what was last said of its object. It stands alone as a whole, because a document
holds records of all of a tenant's slots, and one that stands alone in part is of no use to anybody.

One file longer than usual: C functions of one module can be inlined, of two they cannot. Buffers
and the object table are included from _buffer.pxi and _objects.pxi.
"""

import numpy as np

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.unicode cimport PyUnicode_AsUTF8AndSize
from libc.stdint cimport (
    int32_t,
    int64_t,
    uint8_t,
    uint16_t,
    uint32_t,
    uint64_t,
    uintptr_t,
)
from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memchr, memcpy, memset

include "_buffer.pxi"
include "_objects.pxi"

cdef enum:
    # By themselves: since GCC 13 one member beyond an int makes the others unsigned, too.
    RING_BUSY = 0x80000000
    RING_DISCARD = 0x40000000

cdef enum:
    SLOTS = 1024
    RELATIONS = 256
    TYPES = 256

    RECORD_FLOW = 1
    RECORD_VERTEX = 2
    RECORD_NAME = 3
    RECORD_ARGUMENTS = 4
    RECORD_ADDRESS = 5
    RECORD_ENVIRONMENT = 6

    MARK_MAIN = 1
    MARK_MEMORY = 2
    MARK_NEW_A = 4
    MARK_NEW_B = 8
    MARK_NEW_C = 16
    MARK_SETUP = 256
    MARK_LEFT = 512
    # Of what the acting task is, in records of every kind.
    STANDING = 768

    # Sections of a document, in their order.
    AGENT = 0
    ACTIVITY = 1
    ENTITY = 2
    USED = 3
    GENERATED = 4
    DERIVED = 5
    INFORMED = 6
    INFLUENCED = 7
    ASSOCIATED = 8
    SECTIONS = 9

    # Which member of the union a vertex record holds.
    BODY_NONE = 0
    BODY_TASK = 1
    BODY_MEMORY = 2
    BODY_INODE = 3
    BODY_SOCKET = 4
    BODY_IATTR = 5
    BODY_XATTR = 6
    BODY_MESSAGE = 7
    BODY_SEGMENT = 8

    # Of a slot whose records are not rendered.
    KEPT = 1
    IGNORED = 2

    # What an iattr has that is valid.
    ATTR_MODE = 1
    ATTR_UID = 2
    ATTR_GID = 4
    ATTR_SIZE = 8

    MESSAGE_TYPE = 1
    MESSAGE_QUEUE = 2

    ID_BYTES = 22
    # Runs of versions kept of an object with foreign steps. They answer for a record that another
    # CPU's record has overtaken; no CPU is as many steps behind.
    HISTORY = 8
    # Tasks of all cgroups that get what becomes known late: 2 MB. A workload makes as many as it
    # likes, in cgroups that nobody ever describes.
    WAITING_TASKS = 16384
    # Longest edge without its names: ids, versions, time, flags, offset and the words around them.
    EDGE_BYTES = 768

SECTION_NAMES = (
    "agent",
    "activity",
    "entity",
    "used",
    "wasGeneratedBy",
    "wasDerivedFrom",
    "wasInformedBy",
    "wasInfluencedBy",
    "wasAssociatedWith",
)

cdef list _SECTION_HEADS = [f',"{section}":{{'.encode() for section in SECTION_NAMES]

cdef packed struct Header:
    uint8_t record
    uint8_t relation
    uint16_t slot
    uint16_t cpu
    uint16_t marks
    uint32_t sequence
    uint32_t epoch
    uint64_t time_ns

cdef packed struct Flow:
    Header header
    uint64_t a
    uint64_t b
    uint64_t c
    uint32_t a_version
    uint32_t b_version
    uint32_t c_version
    uint32_t flags
    int64_t offset

cdef packed struct Task:
    uint32_t pid
    uint32_t tgid
    uint32_t vpid
    uint32_t utsns
    uint32_t ipcns
    uint32_t mntns
    uint32_t pidns
    uint32_t netns
    uint32_t cgroupns
    uint32_t pad
    uint64_t start_time_ns
    uint64_t cgroup
    char comm[16]

cdef packed struct Memory:
    uint32_t tgid
    uint32_t uid
    uint32_t gid
    uint32_t pad
    uint64_t cgroup
    char comm[16]

cdef packed struct Inode:
    uint32_t mode
    uint32_t uid
    uint32_t gid
    uint32_t device
    uint64_t ino
    uint32_t generation
    uint32_t pad
    uint8_t uuid[16]

cdef packed struct Socket:
    uint32_t uid
    uint32_t gid
    uint64_t ino
    uint16_t family
    uint16_t type
    uint16_t protocol
    uint16_t pad

cdef packed struct Iattr:
    uint32_t valid
    uint32_t mode
    uint32_t uid
    uint32_t gid
    int64_t size

cdef packed struct Xattr:
    uint32_t size
    uint32_t truncated
    char name[104]

cdef packed struct Message:
    int64_t type
    uint64_t size
    int32_t queue
    uint32_t known

cdef packed struct Segment:
    uint64_t size
    uint32_t uid
    uint32_t gid
    uint32_t mode
    uint32_t key
    int32_t number
    uint32_t complete

cdef packed struct Vertex:
    Header header
    uint64_t object
    uint32_t version
    uint8_t type
    uint8_t bare
    uint16_t owner
    uint8_t body[112]

cdef packed struct Text:
    Header header
    uint64_t object
    uint32_t version
    uint16_t length
    uint16_t marks
    char data[4112]


cdef struct Words:
    # The constant parts of one relation's text.
    int section
    bint step
    char *head
    size_t head_size
    char *middle
    size_t middle_size
    char *tail
    size_t tail_size
    char *end
    size_t end_size


cdef struct TypeWords:
    int section
    int body
    char *text
    size_t size


def scan(const uint8_t[::1] data not None, size_t limit):
    """How many bytes of whole, submitted records `data` begins with.

    Args:
        data: ring bytes from a record's header on.
        limit: look at no more than these bytes.

    Returns:
        Bytes up to the first busy record, or the first one that does not end within `limit`.
    """
    cdef size_t at = 0, next_at
    cdef uint32_t length
    if limit > <size_t>data.shape[0]:
        limit = data.shape[0]
    while at + 8 <= limit:
        length = (<uint32_t *>&data[at])[0]
        if length & <uint32_t>RING_BUSY:
            break
        next_at = at + ((<size_t>(length & ~<uint32_t>RING_DISCARD) + 15) & ~<size_t>7)
        if next_at > limit:
            break
        at = next_at
    return at


if sizeof(Task) > KEPT_BYTES or sizeof(Xattr) > KEPT_BYTES:
    raise AssertionError(f"a vertex record's body has more than the {KEPT_BYTES} bytes kept of it")


cdef class Vocabulary:
    """The constant text of every relation and vertex type, made once per process.

    Args:
        relations: by code: (section, is a version step, head, middle, tail, end).
        types: by code: (section, body, text).
        codes: codes by name, for the relations that the agent itself makes.
    """

    cdef Words words[RELATIONS]
    cdef TypeWords types[TYPES]
    cdef object kept
    cdef int named, arg, env, addressed, ran_on, memory_read, memory_write, version_entity, version_activity
    cdef int task, unknown, memory, socket

    def __cinit__(self, dict relations, dict types, dict codes):
        cdef Words *words
        cdef TypeWords *type_words
        cdef bytes head, middle, tail, end, text
        self.kept = (relations, types)
        memset(self.words, 0, sizeof(self.words))
        memset(self.types, 0, sizeof(self.types))
        for code, (section, step, head, middle, tail, end) in relations.items():
            if not 0 < code < RELATIONS:
                raise ValueError(f"relation code {code}: the renderer holds 1 .. {RELATIONS - 1}")
            words = &self.words[<int>code]
            words.section = section
            words.step = step
            words.head, words.head_size = PyBytes_AS_STRING(head), len(head)
            words.middle, words.middle_size = PyBytes_AS_STRING(middle), len(middle)
            words.tail, words.tail_size = PyBytes_AS_STRING(tail), len(tail)
            words.end, words.end_size = PyBytes_AS_STRING(end), len(end)
        for code, (section, body, text) in types.items():
            if not 0 < code < TYPES:
                raise ValueError(f"vertex type code {code}: the renderer holds 1 .. {TYPES - 1}")
            type_words = &self.types[<int>code]
            type_words.section = section
            type_words.body = body
            type_words.text, type_words.size = PyBytes_AS_STRING(text), len(text)
        self.named, self.arg, self.ran_on = codes["named"], codes["arg"], codes["ran_on"]
        self.memory_read, self.memory_write = codes["memory_read"], codes["memory_write"]
        self.version_entity = codes["version_entity"]
        self.version_activity = codes["version_activity"]
        self.task, self.unknown = codes["task"], codes["inode_unknown"]
        self.memory, self.socket = codes["process_memory"], codes["socket"]
        self.addressed, self.env = codes["addressed"], codes["env"]


cdef class Renderer:
    """One tenant's document under way and the objects it may mention.

    Args:
        host: what is done in Python: `object_id(serial) -> str`, `resumes(serial) -> bool`,
            `retire(serial)`, `escape(raw) -> (json, flag)`, `cut()`, `machine()`: the machine's
            declaration with all attributes, and for texts
            `name(data, marks)`, `address(data, marks)`, `arguments(pieces, vertex)` and
            `environment(pieces, vertex)`: the id of each text's vertex, its declaration unless this
            document has it, and attributes of the edge from it.
        vocabulary: the constant texts.
        origin: node token and load id, as in relation keys.
        machine: id of the machine agent.
        number: which tenant this is in the walker's table of slots.
        max_bytes: size of a document, in bytes of JSON, at which it is cut.
        max_records: captured records after which it is cut.
    """

    cdef object host
    cdef Vocabulary vocabulary
    cdef ObjectTable table
    cdef readonly bint stands_alone  # the document under way
    cdef bint alone_asked  # by a record of it
    cdef set older_declared  # in a document that stands alone: (serial, version), below Kept.low
    cdef uint32_t machine_document  # in which the machine is declared with all its attributes
    cdef Buffer sections[SECTIONS]
    cdef bytes origin, machine
    cdef readonly int number
    cdef public size_t max_bytes
    cdef public uint32_t max_records
    cdef dict cgroups
    cdef set partly_known  # cgroups of which more will be said
    cdef dict waiting  # by serial, cgroups of tasks that were declared without what is to come
    cdef dict late  # by serial, what a task's next declaration adds
    cdef readonly uint64_t next_sequence  # of the next captured record, from 1
    cdef readonly uint64_t first_sequence  # of the document's first record
    cdef readonly uint32_t records, elements, document
    cdef readonly uint64_t first_ns, last_ns, undeclared
    cdef public uint32_t epoch  # the tenant's own number, from 1; only ever goes up
    # of the record under way
    cdef uint64_t sequence
    cdef int standing
    cdef int64_t wall_ns
    cdef int k
    cdef int64_t second
    cdef char clock[32]
    cdef public int64_t clock_offset_ns

    def __cinit__(
        self,
        host,
        Vocabulary vocabulary,
        bytes origin,
        bytes machine,
        int number,
        size_t max_bytes,
        uint32_t max_records,
    ):
        memset(self.sections, 0, sizeof(self.sections))
        if len(machine) != ID_BYTES or len(origin) > 64:
            raise ValueError(f"machine id {machine!r} or origin {origin!r} has a wrong length")
        self.host, self.vocabulary, self.origin, self.machine = host, vocabulary, origin, machine
        self.number, self.max_bytes, self.max_records = number, max_bytes, max_records
        self.table = ObjectTable()
        self.next_sequence = self.first_sequence = 1
        self.document = 1
        self.second = -1
        self.cgroups = {}
        self.partly_known = set()
        self.waiting = {}
        self.late = {}
        self.older_declared = set()

    def __dealloc__(self):
        for section in range(SECTIONS):
            free(self.sections[section].data)

    @property
    def objects(self):
        """How many objects are remembered."""
        return self.table.count

    @property
    def size(self):
        """Bytes of JSON in the document under way."""
        return self.total()

    def forget(self, uint32_t keep):
        """Drop the objects used longest ago above `keep`; return their serials.

        Only between documents.
        """
        if self.table.count <= keep:
            return []
        serials = self.table.oldest(keep)
        for serial in serials:
            self.table.drop(serial)
            self.drop_late(serial)
        return serials

    def declare_agent(self, bytes text not None):
        """Put the declaration of the machine agent (`"hw:...":{...}`) into the document."""
        put_object(&self.sections[AGENT], text)
        put_bytes(&self.sections[AGENT], b",", 1)
        self.elements += 1

    def describe(self, uint64_t cgroup, bytes attributes not None, bint complete=True):
        """Declare the tasks of a cgroup with these JSON members, each begun by a comma.

        Tasks that were declared before get them with their next version. `complete`: nothing more
        will be said of the cgroup.
        """
        if self.cgroups.get(cgroup) != attributes:
            self.cgroups[cgroup] = attributes
            for serial, of in self.waiting.items():
                if of == cgroup:
                    self.late[serial] = attributes
        if complete:
            self.partly_known.discard(cgroup)
            self.await_no_more(cgroup)
        else:
            self.partly_known.add(cgroup)

    def undescribe(self, uint64_t cgroup):
        """Forget what the tasks of a cgroup were declared with."""
        self.cgroups.pop(cgroup, None)
        self.partly_known.discard(cgroup)
        self.await_no_more(cgroup)

    def skip(self, uint64_t count):
        """Leave numbers out: they are a gap's. Only between documents."""
        self.next_sequence += count
        self.first_sequence = self.next_sequence

    def take(self, bytes prefix not None):
        """End the document: return its text, starting with `prefix`, and begin the next one."""
        cdef size_t total = PyBytes_GET_SIZE(prefix) + 1
        cdef int section
        cdef Buffer *buffer
        cdef bytes document, name
        cdef char *at
        cdef list names = _SECTION_HEADS
        for section in range(SECTIONS):
            buffer = &self.sections[section]
            # The last declaration may have been erased; the last byte has to be a comma.
            while buffer.size and buffer.data[buffer.size - 1] == b' ':
                buffer.size -= 1
            if buffer.size:
                total += PyBytes_GET_SIZE(names[section]) + self.sections[section].size
        document = PyBytes_FromStringAndSize(NULL, total)
        at = write_literal(
            PyBytes_AS_STRING(document), PyBytes_AS_STRING(prefix), PyBytes_GET_SIZE(prefix)
        )
        for section in range(SECTIONS):
            buffer = &self.sections[section]
            if buffer.size:
                name = names[section]
                at = write_literal(at, PyBytes_AS_STRING(name), PyBytes_GET_SIZE(name))
                at = write_literal(at, buffer.data, buffer.size)
                (at - 1)[0] = b'}'
                buffer.size = 0
        at[0] = b'}'
        self.records = self.elements = 0
        self.first_ns = self.last_ns = 0
        self.first_sequence = self.next_sequence
        self.document += 1
        # Goes on as long as records ask for it, so that two slots' records do not cut at each turn.
        self.stands_alone, self.alone_asked = self.alone_asked, False
        self.older_declared.clear()
        return document

    def release(self):
        """Give back the memory of sections that are empty: tenants are many, most of them quiet."""
        cdef int section
        cdef Buffer *buffer
        for section in range(SECTIONS):
            buffer = &self.sections[section]
            if buffer.size == 0 and buffer.data != NULL:
                free(buffer.data)
                buffer.data = NULL
                buffer.room = 0

    cdef inline size_t total(self) noexcept:
        cdef size_t total = 0
        cdef int section
        for section in range(SECTIONS):
            total += self.sections[section].size
        return total

    cdef inline int stand_alone(self) except -1:
        """A record comes that has to be in a document which stands alone."""
        if not self.stands_alone:
            self.host.cut()
            self.table.keep()
            self.stands_alone = True
        self.alone_asked = True
        return 0

    # -- vertices ---------------------------------------------------------------------------

    cdef Row *row_of(self, uint64_t serial, uint32_t version, int type, bint declared) except NULL:
        """The row of an object; at first sight made with this kernel version.

        `declared`: by a vertex record. Otherwise the record was lost or the row forgotten, and the
        object's versions go on above all forgotten ones so that no vertex id has two meanings.
        """
        cdef Row *row = self.table.find(serial)
        cdef Py_ssize_t size
        cdef const char *text
        cdef bint resumed
        if row != NULL:
            return row
        identifier = self.host.object_id(serial)
        text = PyUnicode_AsUTF8AndSize(identifier, &size)
        if size != ID_BYTES:
            raise ValueError(f'object id "{identifier}" has {size} characters, not {ID_BYTES}')
        resumed = not declared or self.host.resumes(serial)
        row = self.table.add(serial)
        memcpy(row.id, text, ID_BYTES)
        row.type = type
        row.kernel = row.since = version
        if resumed:
            row.flags |= ROW_RESUMED
            row.tenant = self.table.floor
        if not declared:
            row.flags |= ROW_GUESS
            self.undeclared += 1
        return row

    cdef inline Buffer *begin_vertex(self, const Row *row, uint32_t version) except NULL:
        """Begin the declaration of a version: its name, type and version."""
        cdef TypeWords *words = &self.vocabulary.types[row.type]
        cdef Buffer *buffer = &self.sections[words.section]
        cdef char *at
        buffer_reserve(buffer, EDGE_BYTES)
        at = write_literal(buffer.data + buffer.size, b'"hw:', 4)
        at = write_literal(at, row.id, ID_BYTES)
        at[0] = b'.'
        at = write_decimal(at + 1, version)
        at = write_literal(at, words.text, words.size)
        at = write_integer(at, False, version)
        buffer.size = at - buffer.data
        return buffer

    cdef inline Buffer *begin_declaration(self, Row *row) except NULL:
        cdef uint32_t begin = <uint32_t>self.sections[self.vocabulary.types[row.type].section].size
        cdef Buffer *buffer = self.begin_vertex(row, row.tenant)
        row.at = begin
        row.flags &= ~ROW_MARKED
        if row.flags & ROW_RESUMED:
            put_bytes(buffer, b',"hw:resumed":true', 18)
            row.flags = (row.flags & ~ROW_RESUMED) | ROW_MARKED
        elif self.stands_alone and row.flags & ROW_GUESS:
            put_bytes(buffer, b',"hw:resumed":true', 18)
        return buffer

    cdef inline int end_declaration(self, Row *row) except -1:
        cdef Buffer *buffer = &self.sections[self.vocabulary.types[row.type].section]
        cdef Kept *kept
        put_bytes(buffer, b"},", 2)
        row.length = <uint32_t>buffer.size - row.at
        row.document = row.used = self.document
        self.enter(row)
        self.elements += 1
        if self.stands_alone:
            kept = self.table.kept_of(row)
            if kept.document != self.document:
                kept.document = self.document
                kept.low = row.tenant
        return 0

    cdef inline void enter(self, Row *row) noexcept:
        """The object is declared in the epoch."""
        if row.epoch != self.epoch:
            row.epoch = self.epoch
            row.flags &= ~ROW_ASSOCIATED

    cdef inline int declare(self, Row *row, int changed=0) except -1:
        """Declare the current version: by its type alone, or so that the document stands alone.

        `changed`: marks of the task's standing that are to be said again.
        """
        cdef Buffer *buffer = self.begin_declaration(row)
        if self.stands_alone:
            self.described(buffer, row)
        elif self.late:
            attributes = self.late.pop(row.serial, None)
            if attributes is not None:
                put_object(buffer, attributes)
        if changed and not self.stands_alone:
            put_standing(buffer, changed, self.standing)
        return self.end_declaration(row)

    cdef int await_description(self, uint64_t serial, uint64_t cgroup) except -1:
        """A task is declared: with all that will be known of its cgroup, or it waits for more."""
        self.drop_late(serial)
        if cgroup in self.cgroups and cgroup not in self.partly_known:
            return 0
        if len(self.waiting) < WAITING_TASKS:
            self.waiting[serial] = cgroup
        return 0

    cdef inline int drop_late(self, uint64_t serial) except -1:
        """Nothing is to be added to what was said of an object."""
        if self.late:
            self.late.pop(serial, None)
        if self.waiting:
            self.waiting.pop(serial, None)
        return 0

    cdef int await_no_more(self, uint64_t cgroup) except -1:
        """All that will be known of a cgroup is, or it is gone."""
        for serial in [serial for serial, of in self.waiting.items() if of == cgroup]:
            del self.waiting[serial]
        return 0

    cdef int described(self, Buffer *buffer, const Row *row) except -1:
        """The attributes of the object's last description."""
        if row.flags & ROW_FOREIGN:
            put_bytes(buffer, b',"hw:foreign":true', 18)
        elif row.flags & ROW_KEPT:
            self.body(buffer, self.vocabulary.types[row.type].body, self.table.kept_of(row).body)
        if not row.flags & ROW_FOREIGN:
            self.describe_standing(buffer, row)
        return 0

    cdef inline int describe_standing(self, Buffer *buffer, const Row *row) except -1:
        """What a task is by now, of all that it ever was."""
        cdef int standing = self.table.standing_of(row)
        if standing:
            put_standing(buffer, standing >> 16, standing)
        return 0

    cdef inline int change_standing(self, Row *row) except -1:
        """The acting task of the record goes on to a new version; returns what it was not before."""
        cdef int changed
        if row.type != self.vocabulary.task or row.flags & ROW_FOREIGN:
            return 0
        changed = (self.table.standing_of(row) ^ self.standing) & STANDING
        if changed:
            self.table.set_standing(row, self.standing)
        return changed

    cdef int stand(self, Row *row, uint32_t version) except -1:
        """Declare a version that an edge mentions, unless this document, which stands alone, has it."""
        cdef Kept *kept = self.table.kept_of(row)
        cdef Buffer *buffer
        if version == row.tenant:
            if kept.document != self.document:
                self.declare(row)
            return 0
        if kept.document == self.document and version >= kept.low:
            return 0
        if (row.serial, version) in self.older_declared:
            return 0
        self.older_declared.add((row.serial, version))
        buffer = self.begin_vertex(row, version)
        if row.flags & ROW_GUESS:
            put_bytes(buffer, b',"hw:resumed":true', 18)
        self.described(buffer, row)
        put_bytes(buffer, b"},", 2)
        self.elements += 1
        return 0

    cdef int stand_machine(self) except -1:
        """The same for the machine, which is all that its section holds."""
        cdef Buffer *buffer = &self.sections[AGENT]
        if self.machine_document != self.document:
            self.machine_document = self.document
            if buffer.size:
                buffer.size = 0
                self.elements -= 1
            self.declare_agent(self.host.machine())
        return 0

    cdef uint32_t older(self, Row *row, uint32_t version) except? 0xFFFFFFFF:
        """The tenant's version for a kernel version that a later record has left behind."""
        cdef uint32_t best, since, last, tenant
        if version >= row.since:
            return row.tenant - (row.kernel - version)
        # The first known version that includes it: what lies in a jump is part of what follows.
        best = row.tenant - (row.kernel - row.since)
        for since, last, tenant in reversed(self.table.history.get(row.serial, ())):
            if version > last:
                break
            best = tenant if version <= since else tenant + (version - since)
        return best

    cdef int step(self, Row *row, uint32_t version, bint foreign) except -1:
        """Move an object on to a kernel version: declare it, and the version edge into it."""
        cdef uint32_t old = row.tenant
        cdef int relation
        if self.stands_alone:
            self.stand(row, old)
        if foreign:
            history = self.table.history.setdefault(row.serial, [])
            history.append((row.since, row.kernel, row.tenant - (row.kernel - row.since)))
            del history[:-HISTORY]
            row.flags |= ROW_HISTORY
            row.since = version
        row.kernel = version
        row.tenant += 1
        self.declare(row, self.change_standing(row))
        if self.vocabulary.types[row.type].section == ACTIVITY:
            relation = self.vocabulary.version_activity
        else:
            relation = self.vocabulary.version_entity
        return self.edge(relation, row.id, old, row.id, row.tenant, 0, 0, NULL, 0, foreign)

    cdef uint32_t touch(self, Row *row, uint32_t version, bint new) except? 0xFFFFFFFF:
        """The tenant's version of an object that a record mentions, declared and linked."""
        cdef uint32_t mentioned
        if version > row.kernel:
            if new and version - 1 > row.kernel:
                self.step(row, version - 1, True)
            self.step(row, version, not new)
            return row.tenant
        row.used = self.document
        if row.epoch < self.epoch:
            if row.document != self.document:
                self.declare(row)
            self.enter(row)
        mentioned = row.tenant if version == row.kernel else self.older(row, version)
        if self.stands_alone:
            self.stand(row, mentioned)
        return mentioned

    # -- edges ------------------------------------------------------------------------------

    cdef int edge(
        self,
        int relation,
        const char *sender,
        uint32_t sender_version,
        const char *receiver,
        uint32_t receiver_version,
        uint32_t flags,
        int64_t offset,
        const char *task,
        uint32_t task_version,
        bint foreign,
    ) except -1:
        cdef Words *words = &self.vocabulary.words[relation]
        cdef Buffer *buffer = &self.sections[words.section]
        cdef char *at
        buffer_reserve(buffer, EDGE_BYTES)
        at = buffer.data + buffer.size
        at = write_literal(at, b'"hw:', 4)
        at = write_literal(at, PyBytes_AS_STRING(self.origin), PyBytes_GET_SIZE(self.origin))
        at[0] = b'.'
        at = write_decimal(at + 1, self.sequence)
        at[0] = b'.'
        at = write_decimal(at + 1, self.k)
        self.k += 1
        at = write_literal(at, words.head, words.head_size)
        at = write_literal(at, sender, ID_BYTES)
        at[0] = b'.'
        at = write_decimal(at + 1, sender_version)
        at = write_literal(at, words.middle, words.middle_size)
        at = write_literal(at, receiver, ID_BYTES)
        at[0] = b'.'
        at = write_decimal(at + 1, receiver_version)
        at = write_literal(at, words.tail, words.tail_size)
        at = write_literal(at, self.clock, 30)
        at = write_literal(at, words.end, words.end_size)
        if flags:
            at = write_literal(at, b',"cf:flags":"', 13)
            at = write_hexadecimal(at, flags)
            at = write_literal(at, b'"', 1)
        if offset:
            at = write_literal(at, b',"cf:offset":', 13)
            at = write_integer(
                at, offset < 0, <uint64_t>offset if offset > 0 else -<uint64_t>offset
            )
        if task != NULL:
            at = write_literal(at, b',"cf:task_id":"hw:', 18)
            at = write_literal(at, task, ID_BYTES)
            at[0] = b'.'
            at = write_decimal(at + 1, task_version)
            at = write_literal(at, b'"', 1)
        if foreign:
            at = write_literal(at, b',"hw:foreign":true', 18)
        if self.standing & MARK_SETUP:
            at = write_literal(at, b',"hw:setup":true', 16)
        if self.standing & MARK_LEFT:
            at = write_literal(at, b',"hw:left":true', 15)
        at = write_literal(at, b"},", 2)
        buffer.size = at - buffer.data
        self.elements += 1
        return 0

    # -- records ----------------------------------------------------------------------------

    cdef int begin_record(self, const Header *header) except -1:
        cdef int64_t second
        self.sequence = self.next_sequence
        self.next_sequence += 1
        self.k = 0
        self.standing = header.marks & STANDING
        self.wall_ns = <int64_t>header.time_ns + self.clock_offset_ns
        second = self.wall_ns // 1000000000
        if second != self.second:
            write_second(self.clock, second)
            self.clock[19] = b'.'
            self.clock[29] = b'Z'
            self.second = second
        write_padded(self.clock + 20, self.wall_ns - second * 1000000000, 9)
        if self.records == 0:
            self.first_ns = header.time_ns
        self.last_ns = header.time_ns
        self.records += 1
        return 0

    cdef int flow(self, const Flow *flow) except -1:
        cdef Vocabulary vocabulary = self.vocabulary
        cdef int relation = flow.header.relation, marks = flow.header.marks
        cdef int section = vocabulary.words[relation].section, task = vocabulary.task
        cdef int unknown = vocabulary.unknown
        cdef Row *a
        cdef Row *b
        cdef Row *c
        cdef uint32_t a_version, b_version, c_version = 0
        if vocabulary.words[relation].step:
            return self.last_step(flow)
        if section == USED or section == GENERATED:
            # All three are made before one is pointed at: making one may move the others.
            self.row_of(flow.a, flow.a_version, unknown, False)
            self.row_of(flow.b, flow.b_version, task, False)
            if marks & (MARK_MEMORY | MARK_NEW_C):
                self.row_of(flow.c, flow.c_version, vocabulary.memory, False)
                c = self.table.find(flow.c)
            else:
                c = NULL
            a, b = self.table.find(flow.a), self.table.find(flow.b)
            if section == USED:
                a_version = self.touch(a, flow.a_version, marks & MARK_NEW_A)
                b_version = self.touch(b, flow.b_version, marks & MARK_NEW_B)
                if marks & MARK_MAIN:
                    self.edge(
                        relation, a.id, a_version, b.id, b_version,
                        flow.flags, flow.offset, NULL, 0, False,
                    )
                if c != NULL:
                    c_version = self.touch(c, flow.c_version, marks & MARK_NEW_C)
                    if marks & MARK_MEMORY:
                        self.edge(
                            vocabulary.memory_write, b.id, b_version, c.id, c_version,
                            0, 0, NULL, 0, False,
                        )
            else:
                if c != NULL:
                    c_version = self.touch(c, flow.c_version, marks & MARK_NEW_C)
                b_version = self.touch(b, flow.b_version, marks & MARK_NEW_B)
                if c != NULL and marks & MARK_MEMORY:
                    self.edge(
                        vocabulary.memory_read, c.id, c_version, b.id, b_version,
                        0, 0, NULL, 0, False,
                    )
                a_version = self.touch(a, flow.a_version, marks & MARK_NEW_A)
                if marks & MARK_MAIN:
                    self.edge(
                        relation, b.id, b_version, a.id, a_version,
                        flow.flags, flow.offset, NULL, 0, False,
                    )
            return 0
        if section == INFLUENCED:
            a = self.row_of(flow.a, flow.a_version, task, False)
            a_version = self.touch(a, flow.a_version, marks & MARK_NEW_A)
            if self.stands_alone:
                self.stand_machine()
            return self.edge(
                relation, a.id, a_version, PyBytes_AS_STRING(self.machine), 0,
                flow.flags, flow.offset, NULL, 0, False,
            )
        if section == INFORMED:
            unknown = task
        self.row_of(flow.a, flow.a_version, unknown, False)
        self.row_of(flow.b, flow.b_version, unknown, False)
        c = NULL
        if section == DERIVED and flow.c:
            self.row_of(flow.c, flow.c_version, task, False)
            c = self.table.find(flow.c)
            c_version = self.touch(c, flow.c_version, marks & MARK_NEW_C)
        a, b = self.table.find(flow.a), self.table.find(flow.b)
        a_version = self.touch(a, flow.a_version, marks & MARK_NEW_A)
        b_version = self.touch(b, flow.b_version, marks & MARK_NEW_B)
        return self.edge(
            relation, a.id, a_version, b.id, b_version, flow.flags, flow.offset,
            NULL if c == NULL else c.id, c_version, False,
        )

    cdef int last_step(self, const Flow *flow) except -1:
        """An edge from an object's last version to the one that nothing can follow."""
        cdef int relation = flow.header.relation
        cdef bint informed = self.vocabulary.words[relation].section == INFORMED
        cdef int unknown = self.vocabulary.task if informed else self.vocabulary.unknown
        cdef Row *row = self.row_of(flow.a, flow.a_version, unknown, False)
        cdef uint32_t version = self.touch(row, flow.a_version, False)
        row.kernel = flow.b_version
        row.tenant += 1
        self.declare(row)
        self.edge(
            relation, row.id, version, row.id, row.tenant, flow.flags, flow.offset, NULL, 0, False
        )
        self.table.drop(flow.a)
        self.drop_late(flow.a)
        if not informed:
            self.host.retire(flow.a)
        return 0

    cdef int vertex(self, const Vertex *vertex, bint foreign) except -1:
        cdef TypeWords *words = &self.vocabulary.types[vertex.type]
        cdef Row *row
        cdef Buffer *buffer
        cdef bint first, retyped, erased
        if words.size == 0:
            raise ValueError(f"vertex record of unknown type {vertex.type}")
        row = self.row_of(vertex.object, vertex.version, vertex.type, True)
        first = row.epoch < self.epoch
        retyped = row.type != vertex.type
        row.flags &= ~ROW_GUESS
        if retyped:
            # Declared as unknown, perhaps in this very document, perhaps in another section.
            erased = self.erase(row)
            row.type = vertex.type
            row.flags &= ~ROW_KEPT
            if erased:
                self.declare(row)
        if vertex.version > row.kernel:
            self.step(row, vertex.version, True)
        if vertex.bare:
            if first or retyped:
                if row.document != self.document:
                    self.declare(row)
                self.enter(row)
        else:
            self.erase(row)
            buffer = self.begin_declaration(row)
            if foreign:
                row.flags |= ROW_FOREIGN
                put_bytes(buffer, b',"hw:foreign":true', 18)
            else:
                row.flags &= ~ROW_FOREIGN
                self.body(buffer, words.body, vertex.body)
                if words.body == BODY_TASK:
                    if self.standing != self.table.standing_of(row) & STANDING:
                        self.table.set_standing(row, self.standing)
                    self.describe_standing(buffer, row)
                    self.await_description(vertex.object, (<const Task *>vertex.body).cgroup)
                if self.table.kept != NULL:
                    memcpy(self.table.kept_of(row).body, vertex.body, KEPT_BYTES)
                    row.flags |= ROW_KEPT
            self.end_declaration(row)
        if words.body == BODY_TASK and not foreign and not row.flags & ROW_ASSOCIATED:
            row.flags |= ROW_ASSOCIATED
            if self.stands_alone:
                self.stand_machine()
                self.stand(row, row.tenant)
            self.edge(
                self.vocabulary.ran_on, PyBytes_AS_STRING(self.machine), 0,
                row.id, row.tenant, 0, 0, NULL, 0, False,
            )
        return 0

    cdef bint erase(self, Row *row) noexcept:
        """Blank the current version's declaration if it is in this document: a key comes once."""
        cdef Buffer *buffer
        if row.document != self.document:
            return False
        buffer = &self.sections[self.vocabulary.types[row.type].section]
        memset(buffer.data + row.at, b' ', row.length)
        self.elements -= 1
        row.document = 0
        if row.flags & ROW_MARKED:
            row.flags |= ROW_RESUMED  # still to be said
        return True

    cdef int number_attribute(self, Buffer *buffer, bytes key, uint64_t value) except -1:
        cdef char *at
        buffer_reserve(buffer, 128)
        at = buffer.data + buffer.size
        at = write_literal(at, PyBytes_AS_STRING(key), PyBytes_GET_SIZE(key))
        at = write_integer(at, False, value)
        buffer.size = at - buffer.data
        return 0

    cdef int signed_attribute(self, Buffer *buffer, bytes key, int64_t value) except -1:
        cdef char *at
        buffer_reserve(buffer, 128)
        at = buffer.data + buffer.size
        at = write_literal(at, PyBytes_AS_STRING(key), PyBytes_GET_SIZE(key))
        at = write_integer(at, value < 0, <uint64_t>value if value >= 0 else -<uint64_t>value)
        buffer.size = at - buffer.data
        return 0

    cdef int mode_attribute(self, Buffer *buffer, bytes key, uint32_t value) except -1:
        cdef char *at
        buffer_reserve(buffer, 128)
        at = buffer.data + buffer.size
        at = write_literal(at, PyBytes_AS_STRING(key), PyBytes_GET_SIZE(key))
        at = write_hexadecimal(at, value)
        at = write_literal(at, b'"', 1)
        buffer.size = at - buffer.data
        return 0

    cdef int name_attribute(self, Buffer *buffer, const char *name, int room) except -1:
        """The text in `name`, which ends with a NUL byte or with its `room`."""
        cdef int size = 0
        cdef bint plain = True
        cdef uint8_t character
        while size < room and name[size]:
            character = name[size]
            if character < 0x20 or character > 0x7e or character == b'"' or character == b'\\':
                plain = False
            size += 1
        put_bytes(buffer, b',"cf:name":', 11)
        if plain:
            put_bytes(buffer, b'"', 1)
            put_bytes(buffer, name, size)
            put_bytes(buffer, b'"', 1)
        else:
            text, escaped = self.host.escape(PyBytes_FromStringAndSize(name, size))
            put_object(buffer, text)
            if escaped:
                put_bytes(buffer, b',"hw:escaped":true', 18)
        return 0

    cdef int body(self, Buffer *buffer, int kind, const uint8_t *body) except -1:
        """The attributes of a vertex record: of its body, `KEPT_BYTES` at most."""
        cdef const Task *task
        cdef const Memory *memory
        cdef const Inode *inode
        cdef const Socket *socket
        cdef const Iattr *iattr
        cdef const Xattr *xattr
        cdef const Message *message
        cdef const Segment *segment
        cdef char *at
        cdef int i
        if kind == BODY_TASK:
            task = <const Task *>body
            self.number_attribute(buffer, b',"cf:pid":', task.pid)
            self.number_attribute(buffer, b',"cf:tgid":', task.tgid)
            self.number_attribute(buffer, b',"cf:vpid":', task.vpid)
            self.number_attribute(buffer, b',"cf:utsns":', task.utsns)
            self.number_attribute(buffer, b',"cf:ipcns":', task.ipcns)
            self.number_attribute(buffer, b',"cf:mntns":', task.mntns)
            self.number_attribute(buffer, b',"cf:pidns":', task.pidns)
            self.number_attribute(buffer, b',"cf:netns":', task.netns)
            self.number_attribute(buffer, b',"cf:cgroupns":', task.cgroupns)
            self.number_attribute(buffer, b',"hw:cgroup":', task.cgroup)
            self.name_attribute(buffer, task.comm, 16)
            attributes = self.cgroups.get(task.cgroup)
            if attributes is not None:
                put_object(buffer, attributes)
        elif kind == BODY_MEMORY:
            memory = <const Memory *>body
            self.number_attribute(buffer, b',"cf:tgid":', memory.tgid)
            self.number_attribute(buffer, b',"cf:uid":', memory.uid)
            self.number_attribute(buffer, b',"cf:gid":', memory.gid)
            self.number_attribute(buffer, b',"hw:cgroup":', memory.cgroup)
            self.name_attribute(buffer, memory.comm, 16)
        elif kind == BODY_INODE:
            inode = <const Inode *>body
            self.mode_attribute(buffer, b',"cf:mode":"', inode.mode)
            self.number_attribute(buffer, b',"cf:uid":', inode.uid)
            self.number_attribute(buffer, b',"cf:gid":', inode.gid)
            self.number_attribute(buffer, b',"cf:ino":', inode.ino)
            self.number_attribute(buffer, b',"hw:generation":', inode.generation)
            buffer_reserve(buffer, 128)
            at = write_literal(buffer.data + buffer.size, b',"hw:device":"', 14)
            at = write_decimal(at, inode.device >> 20)
            at[0] = b':'
            at = write_decimal(at + 1, inode.device & 0xFFFFF)
            at = write_literal(at, b'"', 1)
            for i in range(16):
                if inode.uuid[i]:
                    at = write_literal(at, b',"cf:uuid":"', 12)
                    at = write_uuid(at, inode.uuid)
                    at = write_literal(at, b'"', 1)
                    break
            buffer.size = at - buffer.data
        elif kind == BODY_SOCKET:
            socket = <const Socket *>body
            self.number_attribute(buffer, b',"cf:uid":', socket.uid)
            self.number_attribute(buffer, b',"cf:gid":', socket.gid)
            self.number_attribute(buffer, b',"cf:ino":', socket.ino)
            self.number_attribute(buffer, b',"hw:family":', socket.family)
            self.number_attribute(buffer, b',"hw:socketType":', socket.type)
            self.number_attribute(buffer, b',"hw:protocol":', socket.protocol)
        elif kind == BODY_IATTR:
            iattr = <const Iattr *>body
            self.mode_attribute(buffer, b',"cf:valid":"', iattr.valid)
            if iattr.valid & ATTR_MODE:
                self.mode_attribute(buffer, b',"cf:mode":"', iattr.mode)
            if iattr.valid & ATTR_UID:
                self.number_attribute(buffer, b',"cf:uid":', iattr.uid)
            if iattr.valid & ATTR_GID:
                self.number_attribute(buffer, b',"cf:gid":', iattr.gid)
            if iattr.valid & ATTR_SIZE:
                self.signed_attribute(buffer, b',"cf:size":', iattr.size)
        elif kind == BODY_XATTR:
            xattr = <const Xattr *>body
            self.name_attribute(buffer, xattr.name, sizeof(xattr.name))
            if xattr.truncated:
                put_bytes(buffer, b',"hw:truncated":true', 20)
            if xattr.size:
                self.number_attribute(buffer, b',"cf:size":', xattr.size)
        elif kind == BODY_MESSAGE:
            message = <const Message *>body
            if message.known & MESSAGE_TYPE:
                self.signed_attribute(buffer, b',"hw:messageType":', message.type)
                self.number_attribute(buffer, b',"cf:size":', message.size)
            if message.known & MESSAGE_QUEUE:
                self.signed_attribute(buffer, b',"hw:ipcId":', message.queue)
        elif kind == BODY_SEGMENT:
            segment = <const Segment *>body
            self.mode_attribute(buffer, b',"cf:mode":"', segment.mode)
            self.number_attribute(buffer, b',"hw:key":', segment.key)
            if segment.complete:
                self.number_attribute(buffer, b',"cf:uid":', segment.uid)
                self.number_attribute(buffer, b',"cf:gid":', segment.gid)
                self.number_attribute(buffer, b',"cf:size":', segment.size)
                self.signed_attribute(buffer, b',"hw:ipcId":', segment.number)
        return 0

    cdef int text(self, const Text *text, object pieces) except -1:
        """A path, an address, the arguments of a program: vertices of their own, edges from them.

        Args:
            text: the record, of a length that was looked at.
            pieces: of arguments and of an environment, what may be seen.
        """
        cdef int kind = text.header.record
        cdef int unknown = self.vocabulary.unknown, relation = self.vocabulary.named
        cdef Row *row
        cdef uint32_t version
        cdef Buffer *entities = &self.sections[ENTITY]
        cdef Buffer *edges = &self.sections[DERIVED]
        cdef bytes data
        if kind == RECORD_ARGUMENTS:
            unknown, relation = self.vocabulary.memory, self.vocabulary.arg
        elif kind == RECORD_ENVIRONMENT:
            unknown, relation = self.vocabulary.memory, self.vocabulary.env
        elif kind == RECORD_ADDRESS:
            unknown, relation = self.vocabulary.socket, self.vocabulary.addressed
        row = self.row_of(text.object, text.version, unknown, False)
        version = self.touch(row, text.version, False)
        if row.flags & ROW_FOREIGN and row.type == self.vocabulary.memory:
            return 0  # what another tenant's process runs is that tenant's own
        if kind == RECORD_NAME or kind == RECORD_ADDRESS:
            data = PyBytes_FromStringAndSize(text.data, text.length)
            if kind == RECORD_NAME:
                vertices = (self.host.name(data, text.marks),)
            else:
                vertices = (self.host.address(data, text.marks),)
        else:
            vertex = f"{row.id[:ID_BYTES].decode()}.{version}"
            if kind == RECORD_ARGUMENTS:
                vertices = self.host.arguments(pieces, vertex)
            else:
                vertices = self.host.environment(pieces, vertex)
        for identifier, declaration, attributes in vertices:
            if declaration is not None:
                put_object(entities, declaration)
                self.elements += 1
            self.edge(
                relation,
                PyBytes_AS_STRING(<bytes>identifier), 0, row.id, version, 0, 0, NULL, 0, False,
            )
            if attributes:
                edges.size -= 2  # within the edge's braces
                put_object(edges, attributes)
                put_bytes(edges, b"},", 2)
        return 0


cdef int put_standing(Buffer *buffer, int asked, int standing) except -1:
    """Of each mark in `asked` whether it holds."""
    if asked & MARK_SETUP:
        if standing & MARK_SETUP:
            put_bytes(buffer, b',"hw:setup":true', 16)
        else:
            put_bytes(buffer, b',"hw:setup":false', 17)
    if asked & MARK_LEFT:
        if standing & MARK_LEFT:
            put_bytes(buffer, b',"hw:left":true', 15)
        else:
            put_bytes(buffer, b',"hw:left":false', 16)
    return 0


cdef inline char *write_uuid(char *at, const uint8_t *uuid) noexcept:
    cdef char *figures = b"0123456789abcdef"
    cdef int i
    for i in range(16):
        if i == 4 or i == 6 or i == 8 or i == 10:
            at[0] = b'-'
            at += 1
        at[0] = figures[uuid[i] >> 4]
        at[1] = figures[uuid[i] & 15]
        at += 2
    return at


cdef class Walker:
    """Walks the ring's records and gives each to its tenant's renderer, numbered and in order.

    Args:
        high: uint64[slots, cpus]: the last number seen of each (slot, CPU); shared with the
            tracker of :mod:`headwater_agent.sequence`.
        unexpected: `(slot, cpu, sequence) -> bool`, called for a number that does not follow the
            one before; returns whether the record counts.
        enter_epoch: `(slot, token, cpu, sequence) -> Renderer or None`, called when a slot's records
            change their epoch token; None: nobody knows the token.
        redact: `(slot, kind, data, marks, cpu, sequence) -> pieces or None`, called for arguments and
            environments: what of them may be seen; None: the record is not rendered.
    """

    cdef uint64_t[:, ::1] high
    cdef object unexpected, enter_epoch, redact
    cdef list renderers
    cdef uint32_t tokens[SLOTS]
    cdef int32_t tenants[SLOTS]
    cdef uint8_t alone[SLOTS]
    cdef uint8_t apart[SLOTS]  # KEPT, IGNORED, or 0: rendered
    cdef Buffer kept[SLOTS]
    cdef uint64_t kept_records[SLOTS]
    cdef uint64_t dropped[SLOTS]
    cdef size_t kept_bytes
    cdef public size_t slot_max_bytes
    cdef public size_t kept_max_bytes
    cdef readonly uint64_t records, discarded, unknown

    def __cinit__(self, high, unexpected, enter_epoch, redact):
        self.high, self.unexpected, self.enter_epoch = high, unexpected, enter_epoch
        self.redact = redact
        if high.shape[0] != SLOTS:
            raise ValueError(f"high has {high.shape[0]} slots, layout.h {SLOTS}")
        self.renderers = [None] * SLOTS
        memset(self.tokens, 0, sizeof(self.tokens))
        memset(self.tenants, 0xFF, sizeof(self.tenants))
        memset(self.alone, 0, sizeof(self.alone))
        memset(self.apart, 0, sizeof(self.apart))
        memset(self.kept, 0, sizeof(self.kept))

    def __dealloc__(self):
        cdef int slot
        for slot in range(SLOTS):
            free(self.kept[slot].data)

    def keep(self, int slot):
        """Keep a slot's records, from the next one on, as they are: up to `slot_max_bytes` of them,
        and `kept_max_bytes` of all slots. From the first that finds no room they are counted."""
        self.set_apart(slot, KEPT)

    def ignore(self, int slot):
        """Pass over a slot's records from the next one on, and forget those kept."""
        self.set_apart(slot, IGNORED)

    def release(self, int slot):
        """Render a slot's records from the next one on.

        Returns:
            The records kept, and how many were dropped.
        """
        cdef bytes ring = PyBytes_FromStringAndSize(self.kept[slot].data, self.kept[slot].size)
        cdef uint64_t dropped = self.dropped[slot]
        self.set_apart(slot, 0)
        return ring, dropped

    def drop(self, int slot):
        """Forget the records kept of a slot: they and all that follow are dropped."""
        cdef uint64_t dropped = self.dropped[slot] + self.kept_records[slot]
        cdef int state = self.apart[slot]
        if dropped:
            self.set_apart(slot, state)
            self.dropped[slot] = dropped

    cdef int set_apart(self, int slot, int state) except -1:
        if not 0 < slot < SLOTS:
            raise ValueError(f"slot {slot}: must be 1 .. {SLOTS - 1}")
        self.kept_bytes -= self.kept[slot].room
        free(self.kept[slot].data)
        memset(&self.kept[slot], 0, sizeof(Buffer))
        self.kept_records[slot] = self.dropped[slot] = 0
        self.apart[slot] = state
        return 0

    cdef int set_aside(self, int slot, const char *data, size_t size) except -1:
        """Keep or count one record."""
        cdef Buffer *buffer = &self.kept[slot]
        cdef size_t room = buffer.room
        if self.apart[slot] == IGNORED:
            return 0
        if (
            self.dropped[slot]
            or buffer.size + size > self.slot_max_bytes
            or (buffer.size + size > room and self.kept_bytes + room > self.kept_max_bytes)
        ):
            self.dropped[slot] += 1
            return 0
        put_bytes(buffer, data, size)
        self.kept_bytes += buffer.room - room
        self.kept_records[slot] += 1
        return 0

    def set_tenant(self, int slot, int number):
        """Say whose objects are those made in a slot."""
        if not 0 < slot < SLOTS:
            raise ValueError(f"slot {slot}: must be 1 .. {SLOTS - 1}")
        self.tenants[slot] = number

    def set_alone(self, int slot, bint alone):
        """Say whether a slot's records, from the next one on, need documents that stand alone."""
        if not 0 < slot < SLOTS:
            raise ValueError(f"slot {slot}: must be 1 .. {SLOTS - 1}")
        self.alone[slot] = alone

    def feed(self, const uint8_t[::1] data not None):
        """Render whole, submitted records, as `scan` measured them.

        Raises:
            ValueError: the bytes are no ring records; says where.
        """
        cdef size_t at = 0, size = data.shape[0], payload
        cdef uint32_t length
        cdef uint64_t *high
        cdef const Header *header
        cdef const Text *text
        cdef Renderer renderer
        cdef int slot, kind
        while at < size:
            if size - at < 8:
                raise ValueError(f"ring bytes end within a header, at byte {at} of {size}")
            length = (<uint32_t *>&data[at])[0]
            payload = length & ~(<uint32_t>RING_DISCARD)
            if length & <uint32_t>RING_BUSY or payload + 8 > size - at:
                raise ValueError(f"record at byte {at} of {size}: length {length:#x}")
            if length & <uint32_t>RING_DISCARD:
                self.discarded += 1
                at += (payload + 15) & ~<size_t>7
                continue
            header = <const Header *>&data[at + 8]
            at += (payload + 15) & ~<size_t>7
            if payload < sizeof(Header) or header.slot >= SLOTS or not header.slot:
                raise ValueError(f"record before byte {at} of {size}: {payload} bytes, no slot")
            slot = header.slot
            kind = header.record
            if header.cpu >= self.high.shape[1]:
                raise ValueError(f"record of CPU {header.cpu}: the node has {self.high.shape[1]}")
            if self.apart[slot]:
                self.set_aside(slot, <const char *>header - 8, (payload + 15) & ~<size_t>7)
                continue
            high = &self.high[slot, header.cpu]
            if <uint32_t>(high[0] + 1) == header.sequence:
                high[0] += 1
            elif not self.unexpected(slot, header.cpu, header.sequence):
                continue
            if header.epoch != self.tokens[slot] or self.renderers[slot] is None:
                entered = self.enter_epoch(slot, header.epoch, header.cpu, header.sequence)
                if entered is None:
                    self.unknown += 1
                    continue
                self.renderers[slot] = entered
                self.tokens[slot] = header.epoch
            renderer = <Renderer>self.renderers[slot]
            if self.alone[slot]:
                renderer.stand_alone()
            if kind == RECORD_FLOW and payload == sizeof(Flow):
                if renderer.vocabulary.words[header.relation].head == NULL:
                    raise ValueError(f"flow record of unknown relation {header.relation}")
                renderer.begin_record(header)
                renderer.flow(<const Flow *>header)
            elif kind == RECORD_VERTEX and payload == sizeof(Vertex):
                renderer.begin_record(header)
                renderer.vertex(<const Vertex *>header, self.is_foreign(renderer, header))
            elif RECORD_NAME <= kind <= RECORD_ENVIRONMENT and payload >= 40:
                text = <const Text *>header
                if text.length > payload - 40:
                    raise ValueError(
                        f"text record of {text.length} bytes in a payload with {payload - 40}"
                    )
                pieces = ()
                if kind == RECORD_ARGUMENTS or kind == RECORD_ENVIRONMENT:
                    # Before it has its place in the stream: what fails in there has none.
                    pieces = self.redact(
                        slot,
                        kind,
                        PyBytes_FromStringAndSize(text.data, text.length),
                        text.marks,
                        header.cpu,
                        header.sequence,
                    )
                    if pieces is None:
                        continue
                renderer.begin_record(header)
                renderer.text(text, pieces)
            else:
                raise ValueError(f"record of kind {kind} with {payload} bytes before byte {at}")
            self.records += 1
            if renderer.records >= renderer.max_records or renderer.total() >= renderer.max_bytes:
                renderer.host.cut()

    cdef bint is_foreign(self, Renderer renderer, const Header *header):
        """Whether the object is another tenant's, or a process or socket of outside."""
        cdef const Vertex *vertex = <const Vertex *>header
        cdef int body
        if vertex.owner:
            return vertex.owner >= SLOTS or self.tenants[vertex.owner] != renderer.number
        body = renderer.vocabulary.types[vertex.type].body
        return body == BODY_TASK or body == BODY_MEMORY or body == BODY_SOCKET
