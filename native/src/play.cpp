// A list of calls, so that who makes them pays once for coming here.
#include <cstddef>
#include <tuple>
#include <type_traits>
#include <utility>

#include "status.h"

namespace unrolled {
namespace {

template <class T>
T argument(int64_t word) {
  if constexpr (std::is_pointer_v<T>)
    return reinterpret_cast<T>(static_cast<intptr_t>(word));
  else
    return static_cast<T>(word);
}

template <class... T, size_t... At>
int with(int (*function)(T...), const int64_t *words, char *message, std::index_sequence<At...>) {
  return function(argument<std::tuple_element_t<At, std::tuple<T...>>>(words[At])..., message);
}

// `function(words..., message)`
template <class... T>
int apply(int (*function)(T...), const int64_t *words, char *message) {
  return with(function, words, message, std::make_index_sequence<sizeof...(T) - 1>());
}

int make(const unrolled_call &call, char *message) {
  switch (call.function) {
    case UNROLLED_CALL_RUN: return apply(unrolled_plan_run, call.arguments, message);
    case UNROLLED_CALL_PACK: return apply(unrolled_pack_all, call.arguments, message);
    case UNROLLED_CALL_COPY: return apply(unrolled_copy_rows, call.arguments, message);
    case UNROLLED_CALL_ADD: return apply(unrolled_add_rows, call.arguments, message);
    case UNROLLED_CALL_OUTER: return apply(unrolled_outer, call.arguments, message);
  }
  return invalid(message, "there is no call %lld", (long long)call.function);
}

int check(const unrolled_list &list, int64_t first, const int64_t *bases, char *message) {
  if (list.calls < 0 || list.words < 0 || list.patches < 0 || list.slots < 0 || first < 0 || first > list.calls)
    return invalid(message, "a list of %lld calls from call %lld on", (long long)list.calls, (long long)first);
  if ((list.calls > 0 && !list.call) || (list.patches > 0 && (!list.word || !list.patch || !bases)))
    return invalid(message, "a part of the list is missing");
  for (int64_t i = 0; i < list.patches; ++i) {
    const unrolled_patch &patch = list.patch[i];
    if (patch.word < 0 || patch.word >= list.words || patch.slot < 0 || patch.slot >= list.slots)
      return invalid(message, "patch %lld is of word %lld and slot %lld", (long long)i, (long long)patch.word,
                     (long long)patch.slot);
  }
  return UNROLLED_OK;
}

}  // namespace
}  // namespace unrolled

int unrolled_play(const unrolled_list *list, int64_t first, const int64_t *bases, char *message) {
  using namespace unrolled;
  if (list == nullptr) return invalid(message, "no list of calls");
  if (int status = check(*list, first, bases, message)) return status;
  for (int64_t i = 0; i < list->patches; ++i) {
    const unrolled_patch &patch = list->patch[i];
    list->word[patch.word] = int64_t(uint64_t(bases[patch.slot]) + uint64_t(patch.offset));
  }
  for (int64_t i = first; i < list->calls; ++i) {
    if (list->call[i].arguments == nullptr) return invalid(message, "call %lld has no arguments", (long long)i);
    if (int status = make(list->call[i], message)) return status;
  }
  return UNROLLED_OK;
}
