/* exported.c - the same net without the library: model.h, which build/export has written
   SPDX-License-Identifier: MIT OR Unlicense

   Classifies the images of infer.c; what differs are the last bits of the probabilities. */

#include "board.h"
#include "model.h"
#include "task.h"

enum { TESTS = 200 };

static float image[MODEL_IMAGE], probs[MODEL_CLASSES], scratch[MODEL_SCRATCH];

int main(void)
{
    uint32_t right = 0;
    for (uint32_t i = 0; i < TESTS; i++) {
        int32_t label = task_image(TASK_PLAIN, i, image);
        model(image, probs, scratch);
        right += task_answer(probs) == label;
    }
    print("tests", TESTS, 10);
    print("right", right, 10);
    print("stack", (uint32_t)board_stack(), 10);
    return 0;
}
