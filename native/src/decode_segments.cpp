// Which stages wait for the step before, so that many tokens of a text are read a segment at a time: the weights of one
// layer stay in the caches over the steps, and the terms that do not wait are products of many rows.
#include <algorithm>
#include <set>

#include "decode.h"

namespace unrolled {
namespace {

constexpr int nowhere = -1;

int last_writer(const unrolled_plan &plan, int array) {
  int writer = nowhere;
  for (size_t s = 0; s < plan.stages.size(); ++s)
    for (int i = 0; i < plan.stages[s].instructions; ++i)
      if (plan.instructions[plan.stages[s].first_instruction + i].destination == array) writer = int(s);
  return writer;
}

int first_reader(const unrolled_plan &plan, int array) {
  for (size_t s = 0; s < plan.stages.size(); ++s) {
    const Stage &stage = plan.stages[s];
    for (int i = 0; i < stage.products; ++i)
      if (plan.products[stage.first_product + i].vector == array) return int(s);
    if (std::count(stage.touched.begin(), stage.touched.end(), array)) return int(s);
  }
  return int(plan.stages.size());
}

// Every stage in a segment of its own, then those joined that a state goes through twice.
std::vector<Segment> segments_of(const unrolled_decoder &d) {
  std::vector<Segment> segments;
  for (int s = 0; s < int(d.plan->stages.size()); ++s) {
    Segment segment{s, s, false};
    for (size_t i = 0; i < d.before.size(); ++i) {
      const int first = first_reader(*d.plan, d.before[i]), last = last_writer(*d.plan, d.after[i]);
      if (first <= s && s <= last) segment = {std::min(segment.first, first), std::max(segment.last, last), true};
    }
    while (!segments.empty() && segments.back().last >= segment.first) {
      segment.first = std::min(segment.first, segments.back().first);
      segment.last = std::max(segment.last, segments.back().last);
      segment.recurrent |= segments.back().recurrent;
      segments.pop_back();
    }
    segments.push_back(segment);
  }
  return segments;
}

bool is_given(const unrolled_decoder &d, const Segment &segment, int array) {
  const auto state = std::find(d.before.begin(), d.before.end(), array);
  return last_writer(*d.plan, state == d.before.end() ? array : d.after[state - d.before.begin()]) < segment.first;
}

// The given terms first: so they are added up in the same order whether one step is made or many.
StepSums step_sums(const unrolled_decoder &d, const Segment &segment, const Sums &sums) {
  StepSums ordered{sums, 0, 0};
  ordered.product.clear();
  for (bool given : {true, false})
    for (int t = 0; t < sums.terms; ++t) {
      const auto term = sums.product.begin() + t * sums.registers;
      const bool now = !sums.accumulate && is_given(d, segment, d.plan->products[*term].vector);
      if (now == given) ordered.product.insert(ordered.product.end(), term, term + sums.registers);
      ordered.given += now && given;
    }
  return ordered;
}

StepStage step_stage(const unrolled_decoder &d, const Segment &segment, const Stage &from) {
  StepStage stage{&from, {}, {}, {}};
  std::set<int32_t> given, own;
  for (const Sums &sums : from.sums) {
    stage.sums.push_back(step_sums(d, segment, sums));
    for (int t = 0; t < sums.terms; ++t)
      (t < stage.sums.back().given ? given : own)
          .insert(d.plan->products[stage.sums.back().product[t * sums.registers]].vector);
  }
  stage.given_vectors.assign(given.begin(), given.end());
  stage.own_vectors.assign(own.begin(), own.end());
  return stage;
}

}  // namespace

void find_segments(unrolled_decoder &decoder) {
  decoder.segments = segments_of(decoder);
  decoder.given_floats = 0;
  for (const Segment &segment : decoder.segments) {
    int64_t floats = 0;
    for (int s = segment.first; s <= segment.last; ++s) {
      const Stage &from = decoder.plan->stages[s];
      decoder.stages.push_back(step_stage(decoder, segment, from));
      for (StepSums &sums : decoder.stages.back().sums) {
        sums.place = floats;
        if (segment.recurrent && sums.given > 0) floats += sums.registers * ((from.units + block - 1) / block * block);
      }
    }
    decoder.given_floats = std::max(decoder.given_floats, floats);
  }
  std::set<int32_t> arrays(decoder.before.begin(), decoder.before.end());
  arrays.insert(decoder.after.begin(), decoder.after.end());
  arrays.insert(decoder.input.begin(), decoder.input.end());
  decoder.by_segments = arrays.size() == 2 * decoder.before.size() + decoder.input.size();
  for (int32_t a : decoder.after) decoder.by_segments &= last_writer(*decoder.plan, a) != nowhere;
  for (int32_t a : decoder.before) decoder.by_segments &= last_writer(*decoder.plan, a) == nowhere;
}

}  // namespace unrolled
