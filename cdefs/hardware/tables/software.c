#include "hardware/tables/software.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "abi/api.h"
#include "hardware/tables/stages.h"

static void end(struct uiopf_lifetime *lifetime)
{
	struct uiopf_pagetables *t = container_of(lifetime, struct uiopf_pagetables, lifetime);

	if (t->map)
		munmap(t->map, t->region.size);
	if (t->region.map)
		uiopf_region_close(&t->region);
	pthread_mutex_destroy(&t->lock);
	free(t->root);
	free(t->free);
	free(t->is_table);
	free(t);
}

struct uiopf_pagetables *uiopf_pagetables_new(const struct uiopf_format *table_format, uint32_t pasids, uint32_t pages,
					      uint64_t base, int tracks)
{
	struct uiopf_pagetables *t = calloc(1, sizeof *t);
	uint32_t i;

	if (!t)
		return NULL;
	t->lifetime = (struct uiopf_lifetime){ 1, end };
	pthread_mutex_init(&t->lock, NULL);
	t->format = table_format;
	t->base = base;
	t->tracks = tracks || table_format->always_tracks;
	t->pasids = pasids;
	t->pages = pages;
	t->root = calloc(pasids, sizeof *t->root);
	t->free = calloc(pages, sizeof *t->free);
	t->is_table = calloc((pages + 63) / 64, sizeof *t->is_table);
	if (!t->root || !t->free || !t->is_table ||
	    uiopf_region_open(&t->region, "uiopf-page-tables", (uint64_t)pages * UIOPF_PAGE) < 0) {
		end(&t->lifetime);
		return NULL;
	}
	t->map = uiopf_region_map_again(&t->region);
	if (!t->map) {
		end(&t->lifetime);
		return NULL;
	}
	for (i = 0; i < pasids; i++)
		t->root[i] = UIOPF_NO_ROOT;
	for (i = 0; i < pages; i++)
		t->free[i] = pages - 1 - i;	/* the first page is taken first */
	t->free_count = pages;
	return t;
}

void uiopf_pagetables_free(struct uiopf_pagetables *tables)
{
	if (tables)
		uiopf_let_go(&tables->lifetime);
}

int uiopf_pagetables_fd(const struct uiopf_pagetables *tables)
{
	return tables->region.fd;
}

uint32_t uiopf_pagetables_used(const struct uiopf_pagetables *tables)
{
	return tables->pages - tables->free_count;
}

static uint64_t *entry_at(const struct uiopf_pagetables *t, uint64_t table, uint64_t address, uint32_t level)
{
	return (uint64_t *)(void *)(t->map + (table - t->base) + 8 * (address >> uiopf_level_shift(level) & 511));
}

static bool is_table(const struct uiopf_pagetables *t, uint64_t table)
{
	const uint64_t page = (table - t->base) / UIOPF_PAGE;	/* large where it is below the base */

	return page < t->pages && t->is_table[page / 64] >> page % 64 & 1;
}

/* A page that is empty, or UIOPF_NO_ROOT. */
static uint64_t take_page(struct uiopf_pagetables *t)
{
	uint32_t page, i;

	if (!t->free_count)
		return UIOPF_NO_ROOT;
	page = t->free[--t->free_count];
	t->is_table[page / 64] |= 1ull << page % 64;
	for (i = 0; i < 512; i++)	/* hardware with a stale translation may walk it still */
		WRITE_ONCE((uint64_t *)(void *)(t->map + (uint64_t)page * UIOPF_PAGE) + i, 0);
	return t->base + (uint64_t)page * UIOPF_PAGE;
}

/* A client can write one table into two places: it is given back once. */
static void give_page(struct uiopf_pagetables *t, uint64_t table)
{
	const uint32_t page = (uint32_t)((table - t->base) / UIOPF_PAGE);

	if (!is_table(t, table))
		return;
	t->is_table[page / 64] &= ~(1ull << page % 64);
	t->free[t->free_count++] = page;
}

static bool has_tables_for(const struct uiopf_pagetables *t, uint32_t pasid, uint64_t address)
{
	const uint64_t above = address >> (UIOPF_ADDRESS_BITS - 1);

	return pasid < t->pasids && (!(above >> 1) || (t->format->canonical && above == ~0ull >> (UIOPF_ADDRESS_BITS - 1))) &&
	       !(t->format->canonical && above == 1);
}

static struct uiopf_entry decode(const struct uiopf_pagetables *t, uint64_t word, uint32_t level, uint32_t above)
{
	struct uiopf_entry entry;

	t->format->decode(word, level, above, true, &entry);
	return entry;
}

/*
 * Down to the entry of a level, or of a page above it, or to what is not there; its level, or -errno. *word*: as loaded;
 * *above*: the rights that the tables leave.
 */
static int descend(const struct uiopf_pagetables *t, uint32_t pasid, uint64_t address, uint32_t to_level, uint64_t **at,
		   uint64_t *word, uint32_t *above)
{
	uint64_t table;
	uint32_t level;

	if (!has_tables_for(t, pasid, address))
		return -EINVAL;
	table = t->root[pasid];
	if (table == UIOPF_NO_ROOT)
		return -ENOENT;
	*above = UIOPF_RIGHTS_ALL;
	for (level = UIOPF_LEVELS;; level--) {
		struct uiopf_entry entry;

		*at = entry_at(t, table, address, level);
		*word = LOAD_ACQUIRE(*at);
		entry = decode(t, *word, level, *above);
		if (level == to_level || entry.kind != UIOPF_ENTRY_TABLE)
			return (int)level;
		if (!is_table(t, entry.address))
			return -EFAULT;
		table = entry.address;
		*above = entry.rights;
	}
}

/* The table below an entry of a table, or UIOPF_NO_ROOT. *other*: the entry is a page, or nothing that is known. */
static uint64_t below(const struct uiopf_pagetables *t, uint64_t table, uint32_t level, uint32_t index, bool *other)
{
	const uint64_t address = (uint64_t)index << uiopf_level_shift(level);
	const struct uiopf_entry entry = decode(t, LOAD_ACQUIRE(entry_at(t, table, address, level)), level, 0);
	const bool known = entry.kind == UIOPF_ENTRY_TABLE && level > 1 && is_table(t, entry.address);

	*other = entry.kind != UIOPF_ENTRY_ABSENT && !known;
	return known ? entry.address : UIOPF_NO_ROOT;
}

/* Whether a table has nothing but tables that have nothing. */
static bool is_empty(const struct uiopf_pagetables *t, uint64_t table, uint32_t level)
{
	uint32_t i;

	for (i = 0; i < 512; i++) {
		bool other;
		const uint64_t next = below(t, table, level, i, &other);

		if (other || (next != UIOPF_NO_ROOT && !is_empty(t, next, level - 1)))
			return false;
	}
	return true;
}

static void give_tables(struct uiopf_pagetables *t, uint64_t table, uint32_t level)
{
	uint32_t i;

	for (i = 0; i < 512; i++) {
		bool other;
		const uint64_t next = below(t, table, level, i, &other);

		if (next != UIOPF_NO_ROOT)
			give_tables(t, next, level - 1);
	}
	give_page(t, table);
}

/* Makes the tables on the way to a level. */
static int make_way(struct uiopf_pagetables *t, uint32_t pasid, uint64_t address, uint32_t to_level)
{
	uint64_t *at, word, next;
	uint32_t above;
	int level;

	if (t->root[pasid] == UIOPF_NO_ROOT) {
		next = take_page(t);
		if (next == UIOPF_NO_ROOT)
			return -ENOMEM;
		STORE_RELEASE(&t->root[pasid], next);
	}
	for (;;) {
		level = descend(t, pasid, address, to_level, &at, &word, &above);
		if (level < 0 || (uint32_t)level == to_level)
			return level;
		if (decode(t, word, (uint32_t)level, above).kind != UIOPF_ENTRY_ABSENT)
			return -EEXIST;
		next = take_page(t);
		if (next == UIOPF_NO_ROOT)
			return -ENOMEM;
		STORE_RELEASE(at, t->format->table(next));	/* pairs with the walk's acquire: the table is empty */
	}
}

static int map_page(struct uiopf_pagetables *tables, uint32_t pasid, uint64_t address, uint64_t to, uint32_t level,
			 uint32_t perm)
{
	struct uiopf_entry entry;
	uint64_t *at, word, page;
	uint32_t above;
	int rc;

	if (!level || level > UIOPF_LARGEST || (address | to) & (uiopf_level_size(level) - 1) || to >> UIOPF_ADDRESS_BITS ||
	    !has_tables_for(tables, pasid, address))
		return -EINVAL;
	page = tables->format->page(to, level, perm, tables->tracks);
	if (!page)
		return -EINVAL;
	rc = make_way(tables, pasid, address, level);
	if (rc < 0)
		return rc;
	rc = descend(tables, pasid, address, level, &at, &word, &above);
	if (rc != (int)level)
		return rc < 0 ? rc : -EFAULT;	/* somebody has changed it meanwhile */
	entry = decode(tables, word, level, above);
	if (entry.kind != UIOPF_ENTRY_ABSENT &&
	    !(entry.kind == UIOPF_ENTRY_TABLE && level > 1 && is_table(tables, entry.address) &&
	      is_empty(tables, entry.address, level - 1)))
		return -EEXIST;
	STORE_RELEASE(at, page);
	if (entry.kind == UIOPF_ENTRY_TABLE)
		give_tables(tables, entry.address, level - 1);
	return 0;
}

/* The entry of the page that has an address; its level. */
static int find_page(const struct uiopf_pagetables *t, uint32_t pasid, uint64_t address, uint64_t **at, uint64_t *word,
		     struct uiopf_entry *entry)
{
	uint32_t above;
	const int level = descend(t, pasid, address, 1, at, word, &above);

	if (level < 0)
		return level;
	*entry = decode(t, *word, (uint32_t)level, above);
	return entry->kind == UIOPF_ENTRY_PAGE ? level : -ENOENT;
}

static int unmap_page(struct uiopf_pagetables *tables, uint32_t pasid, uint64_t address)
{
	struct uiopf_entry entry;
	uint64_t *at, word;
	const int level = find_page(tables, pasid, address, &at, &word, &entry);

	if (level > 0)
		STORE_RELEASE(at, 0);
	return level;
}

static int remove_root(struct uiopf_pagetables *tables, uint32_t pasid)
{
	const uint64_t root = pasid < tables->pasids ? tables->root[pasid] : UIOPF_NO_ROOT;

	if (pasid >= tables->pasids)
		return -EINVAL;
	if (root == UIOPF_NO_ROOT)
		return -ENOENT;
	STORE_RELEASE(&tables->root[pasid], UIOPF_NO_ROOT);
	give_tables(tables, root, UIOPF_LEVELS);
	return 0;
}

static int look_at_page(struct uiopf_pagetables *tables, uint32_t pasid, uint64_t address, struct uiopf_mapping *mapping)
{
	struct uiopf_entry entry;
	uint64_t *at, word;
	const int level = find_page(tables, pasid, address, &at, &word, &entry);

	if (level < 0)
		return level;
	*mapping = (struct uiopf_mapping){ .address = address & ~(uiopf_level_size((uint32_t)level) - 1), .to = entry.address,
		.word = word, .level = (uint32_t)level, .rights = entry.rights, .accessed = entry.accessed, .dirty = entry.dirty };
	return 0;
}

static int clean_page(struct uiopf_pagetables *tables, uint32_t pasid, uint64_t address)
{
	struct uiopf_entry entry;
	uint64_t *at, word;
	int level;

	if (!tables->tracks)
		return -EOPNOTSUPP;
	do {	/* hardware sets a bit meanwhile; at most both */
		level = find_page(tables, pasid, address, &at, &word, &entry);
		if (level < 0)
			return level;
	} while (!COMPARE_EXCHANGE(at, word, tables->format->untouched(word)));
	return entry.accessed | entry.dirty << 1;
}

static int read_entry(struct uiopf_pagetables *tables, uint32_t pasid, uint64_t address, uint32_t level,
			  uint64_t *word)
{
	uint64_t *at;
	uint32_t above;
	const int found = level && level <= UIOPF_LEVELS ? descend(tables, pasid, address, level, &at, word, &above) : -EINVAL;

	if (found < 0)
		return found;
	return (uint32_t)found == level ? 0 : -ENOENT;
}

static int write_entry(struct uiopf_pagetables *tables, uint32_t pasid, uint64_t address, uint32_t level,
			   uint64_t word)
{
	uint64_t *at, was;
	uint32_t above;
	const int found = level && level <= UIOPF_LEVELS ? descend(tables, pasid, address, level, &at, &was, &above) : -EINVAL;

	if (found < 0)
		return found;
	if ((uint32_t)found != level)
		return -ENOENT;
	STORE_RELEASE(at, word);
	return 0;
}

/* ---- each under the lock ---- */

int uiopf_pagetables_map(struct uiopf_pagetables *tables, uint32_t pasid, uint64_t address, uint64_t to,
			 uint32_t level, uint32_t perm)
{
	int rc;

	pthread_mutex_lock(&tables->lock);
	rc = map_page(tables, pasid, address, to, level, perm);
	pthread_mutex_unlock(&tables->lock);
	return rc;
}

int uiopf_pagetables_unmap(struct uiopf_pagetables *tables, uint32_t pasid, uint64_t address)
{
	int rc;

	pthread_mutex_lock(&tables->lock);
	rc = unmap_page(tables, pasid, address);
	pthread_mutex_unlock(&tables->lock);
	return rc;
}

int uiopf_pagetables_look(struct uiopf_pagetables *tables, uint32_t pasid, uint64_t address,
			  struct uiopf_mapping *mapping)
{
	int rc;

	pthread_mutex_lock(&tables->lock);
	rc = look_at_page(tables, pasid, address, mapping);
	pthread_mutex_unlock(&tables->lock);
	return rc;
}

int uiopf_pagetables_clean(struct uiopf_pagetables *tables, uint32_t pasid, uint64_t address)
{
	int rc;

	pthread_mutex_lock(&tables->lock);
	rc = clean_page(tables, pasid, address);
	pthread_mutex_unlock(&tables->lock);
	return rc;
}

int uiopf_pagetables_read(struct uiopf_pagetables *tables, uint32_t pasid, uint64_t address, uint32_t level,
			  uint64_t *word)
{
	int rc;

	pthread_mutex_lock(&tables->lock);
	rc = read_entry(tables, pasid, address, level, word);
	pthread_mutex_unlock(&tables->lock);
	return rc;
}

int uiopf_pagetables_write(struct uiopf_pagetables *tables, uint32_t pasid, uint64_t address, uint32_t level,
			   uint64_t word)
{
	int rc;

	pthread_mutex_lock(&tables->lock);
	rc = write_entry(tables, pasid, address, level, word);
	pthread_mutex_unlock(&tables->lock);
	return rc;
}

int uiopf_pagetables_remove(struct uiopf_pagetables *tables, uint32_t pasid)
{
	int rc;

	pthread_mutex_lock(&tables->lock);
	rc = remove_root(tables, pasid);
	pthread_mutex_unlock(&tables->lock);
	return rc;
}

void uiopf_pagetables_clear(struct uiopf_pagetables *tables)
{
	uint32_t i;

	pthread_mutex_lock(&tables->lock);
	for (i = 0; i < tables->pasids; i++)
		STORE_RELEASE(&tables->root[i], UIOPF_NO_ROOT);
	memset(tables->is_table, 0, (tables->pages + 63) / 64 * sizeof *tables->is_table);
	for (i = 0; i < tables->pages; i++)
		tables->free[i] = tables->pages - 1 - i;
	tables->free_count = tables->pages;
	pthread_mutex_unlock(&tables->lock);
}

int uiopf_pagetables_begin(struct uiopf_pagetables *tables, uint32_t pasid)
{
	uint64_t root;
	int rc = 0;

	if (pasid >= tables->pasids)
		return -EINVAL;
	pthread_mutex_lock(&tables->lock);
	if (tables->root[pasid] == UIOPF_NO_ROOT) {
		root = take_page(tables);
		if (root == UIOPF_NO_ROOT)
			rc = -ENOMEM;
		else
			STORE_RELEASE(&tables->root[pasid], root);
	}
	pthread_mutex_unlock(&tables->lock);
	return rc;
}
