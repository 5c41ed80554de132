# The fuzz targets tests/fuzz/fuzz_*.c, one program each, built by clang:
#   make -f tools/fuzz.mk programs VARIANT=fuzz PYTHON=.venv/bin/python
# Variants: fuzz (libFuzzer, ASan, UBSan), coverage (libFuzzer and source coverage).
# Objects are kept under build/fuzz/VARIANT. Two targets run inside an interpreter: they
# are left out where PYTHON has no library to link with.

VARIANT ?= fuzz
CLANG ?= clang
PYTHON ?= python3
OUT := build/fuzz/$(VARIANT)
INSIDE := fuzz_value fuzz_wire3_value

MSGPACK := $(shell pkg-config --exists msgpack-c && echo msgpack-c || echo msgpack)
LIBS := hiredis $(MSGPACK) openssl liblz4 libb2
SYSTEM := $(patsubst -I%,-isystem %,$(filter-out -I/usr/include,\
    $(shell pkg-config --cflags $(LIBS) libxxhash)))
LDLIBS := $(shell pkg-config --libs $(LIBS)) -lpthread -lm

PYTHON_INCLUDE := $(shell $(PYTHON) tools/run_fuzz.py --python-include)
PYTHON_LIBS := $(shell $(PYTHON) tools/run_fuzz.py --python-libs)

FLAGS_fuzz := -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=undefined
FLAGS_coverage := -fsanitize=fuzzer -fprofile-instr-generate -fcoverage-mapping
FLAGS := $(FLAGS_$(VARIANT))
CFLAGS := -std=c11 -g -O1 -fno-omit-frame-pointer -D_GNU_SOURCE -DXXH_INLINE_ALL \
    -Icsrc -Itests/fuzz $(SYSTEM) -Wall -Wextra -Wshadow -Wstrict-prototypes \
    -Wmissing-prototypes -Wno-unused-function $(FLAGS)

CORE := $(shell find csrc -name '*.c' -not -path 'csrc/py/*')
BINDING := $(shell find csrc/py -name '*.c')
CORE_OBJECTS := $(CORE:%.c=$(OUT)/%.o)
BINDING_OBJECTS := $(BINDING:%.c=$(OUT)/%.o)
TARGETS := $(filter-out $(if $(PYTHON_LIBS),,$(INSIDE)),\
    $(patsubst tests/fuzz/%.c,%,$(wildcard tests/fuzz/fuzz_*.c)))

.PHONY: programs FORCE
.SECONDARY:

programs: $(TARGETS:%=$(OUT)/%)

$(OUT)/libck.a: $(CORE_OBJECTS) $(OUT)/flags
	rm -f $@
	ar rcs $@ $(CORE_OBJECTS)

$(OUT)/csrc/py/%.o: CFLAGS += $(PYTHON_INCLUDE)
$(INSIDE:%=$(OUT)/tests/fuzz/%.o): CFLAGS += $(PYTHON_INCLUDE) \
    -DFUZZ_PYTHON='"$(abspath $(PYTHON))"'

$(OUT)/%.o: %.c $(OUT)/flags
	@mkdir -p $(@D)
	$(CLANG) $(CFLAGS) -MMD -MP -c $< -o $@

$(INSIDE:%=$(OUT)/%): $(OUT)/%: $(OUT)/tests/fuzz/%.o $(BINDING_OBJECTS) $(OUT)/libck.a
	$(CLANG) $(FLAGS) $^ $(LDLIBS) $(PYTHON_LIBS) -o $@

$(OUT)/fuzz_%: $(OUT)/tests/fuzz/fuzz_%.o $(OUT)/libck.a
	$(CLANG) $(FLAGS) $^ $(LDLIBS) -o $@

# Changes when the compiler, a flag or the list of sources does.
SIGNATURE := $(CLANG) $(CFLAGS) $(LDLIBS) $(PYTHON_INCLUDE) $(PYTHON_LIBS) \
    $(sort $(CORE) $(BINDING))
$(OUT)/flags: FORCE
	@mkdir -p $(@D)
	@echo '$(SIGNATURE)' | cmp -s - $@ || echo '$(SIGNATURE)' >$@

-include $(CORE_OBJECTS:.o=.d) $(BINDING_OBJECTS:.o=.d) \
    $(TARGETS:%=$(OUT)/tests/fuzz/%.d)
