/* net.h - the small net of the microcontroller examples: 1,442 weights and 48 statistics
   SPDX-License-Identifier: MIT OR Unlicense

   Include latephase.h first. */

#ifndef MICROCONTROLLER_NET_H
#define MICROCONTROLLER_NET_H

/* x [n,16,16,1] -> logits [n,classes] */
static inline lp_tensor *net_small(lp_net *net, lp_tensor *x, int classes)
{
    lp_tensor *h = lp_conv(net, x, "conv1", 8, 3, 1);
    h = lp_maxpool(net, lp_relu(net, lp_batchnorm(net, h, "bn1")), 2, 2, 0);
    h = lp_conv(net, h, "conv2", 16, 3, 1);
    h = lp_avgpool(net, lp_relu(net, lp_batchnorm(net, h, "bn2")));
    return lp_linear(net, h, "fc", classes);
}

#endif
