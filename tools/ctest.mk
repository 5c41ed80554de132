# The core as an archive and one program for each tests/c/test_*.c, for a variant:
#   make -f tools/ctest.mk run VARIANT=asan
# Variants: plain, asan (with UBSan), tsan, valgrind, coverage. Objects are kept under
# build/c/VARIANT and follow the headers they were made from.

VARIANT ?= plain
CC ?= cc
OUT := build/c/$(VARIANT)
# The programs worth a run under TSan: those in which threads meet.
THREADED := $(patsubst tests/c/%.c,%,$(shell grep -l pthread_create tests/c/test_*.c)) \
    test_resolve

MSGPACK := $(shell pkg-config --exists msgpack-c && echo msgpack-c || echo msgpack)
LIBS := hiredis $(MSGPACK) openssl liblz4 libb2
SYSTEM := $(patsubst -I%,-isystem %,$(filter-out -I/usr/include,\
    $(shell pkg-config --cflags $(LIBS) libxxhash)))

WARNINGS := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wundef \
    -Wvla -Wformat=2 -Wconversion
ifeq ($(CACHEKIT_WERROR),1)
WARNINGS += -Werror
endif

FLAGS_plain := -O2 -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2 -fstack-protector-strong
FLAGS_asan := -O1 -fno-omit-frame-pointer -fsanitize=address,undefined \
    -fno-sanitize-recover=undefined
FLAGS_tsan := -O1 -fno-omit-frame-pointer -fsanitize=thread
FLAGS_valgrind := -O1
FLAGS_coverage := -O0 --coverage
FLAGS := $(FLAGS_$(VARIANT))

CFLAGS := -std=c11 -g -D_GNU_SOURCE -DXXH_INLINE_ALL -Icsrc -Itests/c $(SYSTEM) \
    $(WARNINGS) $(FLAGS)
LDLIBS := $(shell pkg-config --libs $(LIBS)) -lpthread -lm

SOURCES := $(shell find csrc -name '*.c' -not -path 'csrc/py/*')
OBJECTS := $(SOURCES:%.c=$(OUT)/%.o)
TESTS := $(patsubst tests/c/%.c,%,$(wildcard tests/c/test_*.c))
ifeq ($(VARIANT),tsan)
TESTS := $(filter $(THREADED),$(TESTS))
endif
PROGRAMS := $(TESTS:%=$(OUT)/%)

.PHONY: archive run FORCE
.SECONDARY:

archive: $(OUT)/libck.a

run: $(PROGRAMS)
	VARIANT=$(VARIANT) tools/run-c-tests $(PROGRAMS)

# Made anew when a source file goes, so no object outlives its source.
$(OUT)/libck.a: $(OBJECTS) $(OUT)/flags
	rm -f $@
	ar rcs $@ $(OBJECTS)

# A test goes on after a failed check, with outputs that a failure leaves unwritten.
$(OUT)/tests/c/%.o: CFLAGS += -Wno-maybe-uninitialized

$(OUT)/%.o: %.c $(OUT)/flags
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) -MMD -MP -c $< -o $@

$(OUT)/test_%: $(OUT)/tests/c/test_%.o $(OUT)/libck.a
	$(CC) $(FLAGS) $< $(OUT)/libck.a $(LDLIBS) -o $@

# Changes when the compiler, a flag or the list of sources does.
$(OUT)/flags: FORCE
	@mkdir -p $(@D)
	@echo '$(CC) $(CFLAGS) $(LDLIBS) $(sort $(SOURCES))' | cmp -s - $@ || \
	    echo '$(CC) $(CFLAGS) $(LDLIBS) $(sort $(SOURCES))' >$@

-include $(OBJECTS:.o=.d) $(PROGRAMS:$(OUT)/%=$(OUT)/tests/c/%.d)
